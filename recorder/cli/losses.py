"""What a run lost and how it recovered: facts as JSON, and in words."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from recorder.bundle.costs import Loss, costs, effective_times, total_time
from recorder.bundle.reader import Bundle
from recorder.cli.quantities import count, duration

RATIO = "effective_training_time_ratio"


def recovery_facts(bundle: Bundle) -> dict[str, Any]:
    """The attempts and losses of a run as `recorder show --json` has them. Raises BundleError for what is damaged."""
    lost = costs(bundle.course)
    times = effective_times(bundle.attempts, bundle.committed)
    return {
        "attempts": [asdict(attempt) | {RATIO: times[attempt.number].ratio} for attempt in bundle.attempts],
        RATIO: total_time(list(times.values())).ratio,
        "losses": [event | asdict(loss) for event, loss in zip(bundle.course.losses, lost.losses, strict=True)],
        "recovery": {name: value for name, value in asdict(lost).items() if name != "losses"},
    }


def effective_words(facts: dict[str, Any]) -> str:
    """`76% of the time (70%, 82%)`: the ratio of the run and of each attempt; empty where no step says how long."""
    if facts[RATIO] is None:
        return ""
    each = ["none" if attempt[RATIO] is None else f"{attempt[RATIO]:.0%}" for attempt in facts["attempts"]]
    return f"{facts[RATIO]:.0%} of the time" + (f" ({', '.join(each)})" if len(each) > 1 else "")


def recovery_words(recovery: dict[str, Any]) -> str:
    """What all losses cost together; empty where nothing is recorded of that."""
    if not recovery["resume_seconds"]:
        return ""
    shortest, longest = (duration(choose(recovery["resume_seconds"])) for choose in (min, max))
    after = shortest if shortest == longest else f"{shortest} to {longest}"
    redone = f"{count(recovery['steps_redone'], 'step')} redone"
    return f"{redone}, {recovery['worker_seconds_lost']:.1f} worker-seconds lost, training again after {after}"


def loss_words(loss: Loss) -> str:
    """`rank 1 on node-b, signal SIGKILL: 1 step redone, 2.5 worker-seconds lost, training again after 1.2 s`."""
    where = f" on {loss.node[:12]}" if loss.node else " before it joined"
    who = f"rank {'?' if loss.rank is None else loss.rank}{where}, {loss.cause}"
    parts = []
    if loss.steps_redone is not None:
        parts.append(f"{count(loss.steps_redone, 'step')} redone")
    if loss.worker_seconds_lost is not None:
        parts.append(f"{loss.worker_seconds_lost:.1f} worker-seconds lost")
    if loss.resume_seconds is not None:
        parts.append(f"training again after {duration(loss.resume_seconds)}")
    return f"{who}: {', '.join(parts)}" if parts else who
