"""What must be true of a run, whatever was done to its workers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from chaos_folder import Folder
from chaos_run import Played
from chaos_schedule import Schedule

from recorder.bundle import layout
from recorder.bundle.committed import commit
from recorder.bundle.rows import read_rows
from recorder.bundle.verify import verify_bundle
from recorder.ledger import events
from recorder.ledger.ledger import read_events

# What a step does to the state, and what it was computed from.
_SHARED = ("loss", "learning_rate", "grad_norm", "tokens", "order_digest", "gradient_digest", "fingerprint")
_ALARMS = {events.EXCEPTION, events.STEP_DIVERGED, events.STATE_DIFFERS, events.RECORD_GAP, events.STEP_NON_FINITE}


def check(plan: Schedule, played: Played, undisturbed: Played) -> None:
    """Raise AssertionError for whatever is wrong, with all that is."""
    problems = [
        *_outcome_problems(played),
        *_row_problems(plan, played, undisturbed),
        *_micro_batch_problems(plan, played),
        *_final_state_problems(plan, played, undisturbed),
        *_loss_problems(plan, played),
    ]
    assert not problems, "\n".join(problems)


def facts(path: Path, type: str) -> list[dict[str, Any]]:
    """The fields of all events of a type."""
    return [event["fields"] for event in read_events(path) if event["type"] == type]


def _outcome_problems(played: Played) -> list[str]:
    report = verify_bundle(played.path)
    found = [f"verify: {finding}" for finding in report.findings]
    found += [f"{event['type']}: {event['fields']}" for event in read_events(played.path) if event["type"] in _ALARMS]
    if played.outcome != "finished":
        found.append(f"the run {played.outcome}")
    return found


def _row_problems(plan: Schedule, played: Played, undisturbed: Played) -> list[str]:
    """Every row, those that were superseded too, has the bits of the undisturbed run; and there is one a step."""
    expected = {row["step"]: _bits(row) for row in read_rows(undisturbed.path, layout.METRICS)}
    rows = list(read_rows(played.path, layout.METRICS))
    found = [
        f"step {row['step']} of membership {row['membership']} is {_bits(row)}, undisturbed it is {wanted}"
        for row in rows
        if _bits(row) != (wanted := expected.get(row["step"]))
    ]
    steps = [row["step"] for row in commit(rows).rows]
    if steps != list(range(1, plan.steps + 1)):
        found.append(f"the committed steps are {steps}")
    return found


def _bits(row: dict[str, Any]) -> dict[str, str]:
    return {name: repr(row[name]) for name in _SHARED}


def _micro_batch_problems(plan: Schedule, played: Played) -> list[str]:
    """For each row, its membership computed every micro-batch of the step exactly once: by the record and in truth."""
    everything = list(range(plan.micro_batches))
    computed: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for path in played.folder.path.glob("*.computed"):
        for line in path.read_text().splitlines():
            membership, step, micro_batch = map(int, line.split())
            computed[membership, step].append(micro_batch)
    shared: dict[int, list[int]] = {
        changed["membership"]: [n for worker in changed["workers"] for n in range(*worker["micro_batches"])]
        for changed in facts(played.path, events.MEMBERSHIP_CHANGED)
    }
    return [
        f"step {row['step']} of membership {row['membership']}: recorded {recorded}, computed {done}"
        for row in read_rows(played.path, layout.METRICS)
        if (recorded := shared.get(row["membership"])) != everything
        or (done := sorted(computed[row["membership"], row["step"]])) != everything
    ]


def _final_state_problems(plan: Schedule, played: Played, undisturbed: Played) -> list[str]:
    """The last checkpoint has the bytes of the undisturbed run's, as have all that both saved; so have evaluations."""
    last = layout.checkpoint_folder(plan.steps)
    found = []
    for name in (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_OPTIMIZER, layout.CHECKPOINT_STATE):
        mine, theirs = (run.path / last / name for run in (played, undisturbed))
        if not mine.is_file() or mine.read_bytes() != theirs.read_bytes():
            found.append(f"{last}/{name} is not that of the undisturbed run")
    expected = {fields["step"]: repr(fields["loss"]) for fields in facts(undisturbed.path, events.EVALUATED)}
    evaluated = [(fields["step"], repr(fields["loss"])) for fields in facts(played.path, events.EVALUATED)]
    found += [f"evaluation of step {step} is {loss}" for step, loss in evaluated if expected.get(step) != loss]
    if dict(evaluated) != expected:
        found.append(f"the evaluated steps are {[step for step, _ in evaluated]}")
    # Twice only where who recorded it was lost before the others went on, or all went back to the step.
    recorded = Counter(
        (e["spool"], e["fields"]["step"]) for e in read_events(played.path) if e["type"] == events.EVALUATED
    )
    found += [f"{spool} records the evaluation of step {step} again" for (spool, step), n in recorded.items() if n > 1]
    ends = {fields["fingerprint"] for fields in facts(played.path, events.WORKER_FINISHED)}
    if len(ends) > 1:
        found.append(f"workers ended in {len(ends)} states")
    return found


def _loss_problems(plan: Schedule, played: Played) -> list[str]:
    """Each worker that was hit is recorded as lost, once, with the cause; and nobody else is."""
    lost = facts(played.path, events.WORKER_LOST)
    found = [f"{worker} is lost {count} times" for worker, count in Counter(_named(lost)).items() if count > 1]
    causes = {fields["worker"]: fields["cause"] for fields in lost}
    hit = _hit(played.folder, _recorded_at_the_end(plan, played))
    gone = {struck["node"] for struck in played.folder.struck()}
    for fields in lost:
        if fields["node"] in gone and fields["worker"] in hit:
            # Its node may have been lost before it was known what the worker itself died of.
            hit[fields["worker"]].add("node lost")
    for worker, allowed in hit.items():
        if worker not in causes and not _was_not_missed(played, worker):
            found.append(f"{worker} was hit, and its loss is not recorded")
        elif worker in causes and causes[worker] not in allowed:
            found.append(f"{worker} was lost by {sorted(allowed)}, recorded is: {causes[worker]}")
    strays = {worker: cause for worker, cause in causes.items() if worker not in hit}
    if plan.hang_seconds < 10:
        # So short a patience takes a worker that the machine has no time for, for one that is stopped.
        strays = {worker: cause for worker, cause in strays.items() if cause not in _EXPELLED}
    fenced = {fields["origin"].removesuffix(".spool") for fields in facts(played.path, events.ATTEMPT_FENCED)}
    found += [f"{worker} was not hit and is lost: {cause}" for worker, cause in strays.items() if worker not in fenced]
    return found


_EXPELLED = {"expelled: silent", "expelled: hung"}


def _named(fields: list[dict[str, Any]]) -> list[str]:
    return [item["worker"] for item in fields]


def _recorded_at_the_end(plan: Schedule, played: Played) -> set[str]:
    """The workers whose loss was recorded when the run was over: it does not wait to be told what they died of."""
    late, over = set(), False
    for event in read_events(played.path):
        over |= event["type"] == events.WORKER_FINISHED
        # All may be hit before one of them could say that it had finished.
        if event["type"] == events.WORKER_LOST and (over or event["fields"]["last_step"] == plan.steps):
            late.add(event["fields"]["worker"])
    return late


def _hit(folder: Folder, late: set[str]) -> dict[str, set[str]]:
    """Each worker that a fault hit, with the causes that may be recorded; of those in `late` less may be known."""
    hit: defaultdict[str, set[str]] = defaultdict(set)
    for struck in folder.struck():
        for worker in struck["victims"]:
            if struck["signal"] == "SIGSTOP" and worker == f"rank-{struck['rank']}.{struck['incarnation']}":
                hit[worker] |= _EXPELLED
            else:
                hit[worker] |= {"node lost"} if struck["node"] else {"signal SIGKILL"}
            if worker in late:
                hit[worker] |= {"signal SIGKILL", "unknown"}
    return hit


def _was_not_missed(played: Played, worker: str) -> bool:
    """Whether a worker had done its work, or was in no membership when others had done theirs."""
    finished = _named(facts(played.path, events.WORKER_FINISHED))
    members = {
        member["worker"] for changed in facts(played.path, events.MEMBERSHIP_CHANGED) for member in changed["workers"]
    }
    return worker in finished or (bool(finished) and worker not in members)


def describe(played: Played) -> str:
    """The ledger in short, for a person who looks for what went wrong."""
    lines = [f"struck: {json.dumps(struck)}" for struck in played.folder.struck()]
    for event in read_events(played.path):
        fields = {name: value for name, value in event["fields"].items() if name not in {"files", "environment"}}
        lines.append(f"{event['time']} {event['type']} {json.dumps(fields)[:300]}")
    return "\n".join(lines)
