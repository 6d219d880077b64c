"""Whether every worker is accounted for, and every micro-batch of every step has its worker.

Only attempts whose workers have names are held to this, see `recorder.bundle.member_facts`. The order of events in the
ledger is not relied on: workers' events come when they are collected.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from recorder.bundle import layout
from recorder.bundle.findings import Findings
from recorder.bundle.member_facts import MemberFacts
from recorder.bundle.step_ranges import Range, StepRanges, merge, shown, subtract
from recorder.bundle.verify_config import Promise
from recorder.bundle.verify_files import Files
from recorder.bundle.verify_ledger import LedgerFacts
from recorder.bundle.verify_series import Ranks, SeriesFacts

Fields = dict[str, Any]


def check_members(
    files: Files,
    ledger: LedgerFacts,
    series: SeriesFacts,
    promises: dict[int, Promise],
    running: bool,
    findings: Findings,
) -> None:
    """Check workers, memberships and the workers' parts of the rows, attempt by attempt.

    How a worker ended is not asked while the run is being written. Where a segment is damaged, which is a finding of
    its own, nothing is said about what might be missing because of that.
    """
    if files.any_absent(layout.METRICS):
        return
    if not all(files.sound(name) for folder in (layout.LEDGER, layout.METRICS) for name in files.below(folder)):
        return
    for number, attempt in sorted(ledger.attempts.items()):
        members = attempt.members
        if not members.accounted:
            continue
        where = f"attempt {number}"
        promise = promises.get(number)
        _check_ranges(members, where, promise.micro_batches if promise else None, findings)
        _check_leaving(members, where, findings)
        if members.outcome is not None and not running:
            _check_ends(members, where, findings)
        rows = {membership: parts for (owner, membership), parts in series.parts.items() if owner == number}
        _check_rows(members, where, rows, findings)


def _check_ranges(members: MemberFacts, where: str, micro_batches: int | None, findings: Findings) -> None:
    """The micro-batches of each membership are divided over its ranks in order, none left out and none doubled."""
    numbers = [changed["membership"] for changed in members.memberships]
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        findings.add(layout.LEDGER, "membership", f"membership {number} of {where} is recorded more than once")
    for changed in members.memberships:
        if wrong := _division_problem(changed["workers"], micro_batches):
            findings.add(layout.LEDGER, "membership", f"membership {changed['membership']} of {where}: {wrong}")


def _division_problem(workers: list[Fields], micro_batches: int | None) -> str | None:
    """What is wrong with how micro-batches 0 to `micro_batches` - 1 are divided; None when all is well.

    Where it is not known how many there are, they are as many as the last range says.
    """
    unnamed = [worker["rank"] for worker in workers if "worker" not in worker or "micro_batches" not in worker]
    if unnamed:
        return f"rank {unnamed[0]} has no name or no micro-batches"
    for key in ("rank", "worker"):
        if len({worker[key] for worker in workers}) < len(workers):
            return f"a {key} is in it twice"
    reached = 0
    for worker in sorted(workers, key=lambda worker: int(worker["rank"])):
        first, end = worker["micro_batches"]
        if first != reached or end < first:
            return f"rank {worker['rank']} has micro-batches {first} to {end - 1}, and {reached} would be the next"
        reached = end
    if micro_batches is not None and reached != micro_batches:
        return f"its micro-batches end before {reached}, the config has {micro_batches}"
    return None


def _check_leaving(members: MemberFacts, where: str, findings: Findings) -> None:
    """A worker that is missing from a membership ended before it, and none comes back."""
    ordered = sorted(members.memberships, key=lambda changed: int(changed["membership"]))
    gone: set[str] = set()
    for before, after in pairwise(ordered):
        gone |= _names(before) - _names(after)
        for worker in sorted(gone & _names(after)):
            wrong = f"{worker} of {where} is in membership {after['membership']}, and was not in the one before"
            findings.add(layout.LEDGER, "worker", wrong)
        for worker in sorted(_names(before) - _names(after)):
            if problem := _leaving_problem(members, worker, before, after):
                findings.add(layout.LEDGER, "worker", f"{worker} of {where} {problem}")


def _leaving_problem(members: MemberFacts, worker: str, before: Fields, after: Fields) -> str | None:
    """How the end of `worker` contradicts that it was in membership `before` and not in `after`; None if it does not.

    Steps are compared only where the survivors went on: a return to an earlier state begins with an earlier step.
    """
    last, next_ = before["membership"], after["membership"]
    went_on = (after.get("source") or {}).get("kind") == "live"
    for end, fields in members.ends.get(worker, []):
        if end == "lost" and fields.get("membership") not in (None, last):
            return f"was lost in membership {fields['membership']}, and membership {last} is the last it was in"
        if end != "lost" and went_on and fields.get("step", 0) > after.get("start_step", fields.get("step", 0)):
            return f"{end} at step {fields['step']}, and is missing from membership {next_}, which begins before it"
    return None


def _check_ends(members: MemberFacts, where: str, findings: Findings) -> None:
    """In a finished attempt every worker ended exactly once; in others its driver may have ended it unrecorded."""
    workers = sorted(set().union(*map(_names, members.memberships)))
    unknown = [worker for worker in workers if not members.ended_as(worker)]
    unlost = [worker for worker in sorted(set(members.expelled)) if "lost" not in members.ended_as(worker)]
    if members.outcome != "finished":
        if left := sorted({*unknown, *unlost}):
            findings.note(f"{where} {members.outcome}: how {', '.join(left)} ended is not recorded")
        return
    for worker in unknown:
        findings.add(layout.LEDGER, "worker", f"{worker} of {where} neither finished nor drained nor was lost")
    for worker in workers:
        ends = members.ended_as(worker)
        if members.died_after_finishing(worker):
            findings.note(f"{worker} of {where} was lost after it had finished, before it could say so")
        elif len(ends) > 1:
            findings.add(layout.LEDGER, "worker", f"{worker} of {where} ended more than once: {', '.join(ends)}")
    for worker in unlost:
        findings.add(layout.LEDGER, "worker", f"{worker} of {where} was expelled, and no event says that it was lost")


def _names(changed: Fields) -> set[str]:
    return {worker["worker"] for worker in changed["workers"] if "worker" in worker}


def _check_rows(members: MemberFacts, where: str, rows: dict[int, dict[Ranks, StepRanges]], findings: Findings) -> None:
    """Every row is by a membership that is recorded, and has a part of each of its workers that was not lost."""
    named = {
        changed["membership"]: {worker["rank"]: worker.get("worker", "") for worker in changed["workers"]}
        for changed in members.memberships
    }
    for membership, parts in sorted(rows.items()):
        steps = merge(item for ranges in parts.values() for item in ranges.raw())
        about = f"{_shown(steps)} of {where}, membership {membership}"
        if membership not in named:
            if members.outcome != "finished" and membership > max(named, default=-1):
                findings.note(f"{about}: its driver ended before it could record who was in this membership")
            else:
                findings.add(layout.METRICS, "membership", f"{about}: no event says who was in this membership")
            continue
        workers = named[membership]
        for rank in sorted({rank for ranks in parts for rank in ranks} - workers.keys()):
            wrong = f"{about}: rank {rank} has a part in them, and is not in this membership"
            findings.add(layout.METRICS, "membership", wrong)
        for rank, worker in sorted(workers.items()):
            missing = subtract(steps, (item for ranks, got in parts.items() if rank in ranks for item in got.raw()))
            if missing and not members.may_lack_parts_of(worker):
                wrong = f"{_shown(missing)} of {where}, membership {membership}: no part of rank {rank}"
                findings.add(layout.METRICS, "membership", f"{wrong}, which was not lost")


def _shown(steps: list[Range]) -> str:
    more = f" and {len(steps) - 1} more stretches" if len(steps) > 1 else ""
    return f"{shown(steps[0])}{more}"
