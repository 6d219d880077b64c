"""What a run's time went to: the share that trained, and what each loss cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recorder.bundle.committed import CommittedSeries
from recorder.bundle.course import Attempt, Course
from recorder.canonical import decode_float, parse_utc
from recorder.ledger import events


@dataclass(frozen=True)
class EffectiveTime:
    """How long something took in all, and how long it trained steps that were kept, in seconds.

    The *effective training time ratio* is the quotient of the two: what each step that was kept took its workers on
    average, summed, divided by the time from the beginning to the end of the attempts. What is computed again after a
    loss counts once; starting, waiting, saving and evaluating count as time only, and so does nothing between two
    attempts. After A. Kokolis et al., "Revisiting Reliability in Large-Scale Machine Learning Research Clusters"
    (2024), where it is the productive share of a run's time on its machines.
    """

    seconds: float
    training_seconds: float

    @property
    def ratio(self) -> float | None:
        """The effective training time ratio; None where no time passed or no step says how long it took."""
        return self.training_seconds / self.seconds if self.seconds > 0 and self.training_seconds > 0 else None


@dataclass(frozen=True)
class Loss:
    """A worker that was lost. What it cost is that of all who were lost at once; None where it is not recorded."""

    attempt: int
    rank: int | None
    worker: str | None
    node: str | None
    cause: str
    steps_redone: int | None = None
    worker_seconds_lost: float | None = None
    resume_seconds: float | None = None


@dataclass(frozen=True)
class Costs:
    """All losses of a run; the sums count what several losses cost together once."""

    losses: tuple[Loss, ...]
    nodes_lost: int
    steps_redone: int
    worker_seconds_lost: float
    resume_seconds: tuple[float, ...]  # from the death to the next committed step, one for each time


def effective_times(attempts: Sequence[Attempt], committed: CommittedSeries) -> dict[int, EffectiveTime]:
    """For each attempt its time and that of its kept steps. Raises ValueError for a time that is none.

    An attempt whose end is not recorded, or only by a later process, lasted until it was last heard of.
    """
    last_row: dict[int, str] = {}
    training: dict[int, list[float]] = {}
    for row in (*committed.rows, *committed.superseded):
        last_row[row["attempt"]] = max(last_row.get(row["attempt"], ""), row["time"])
    for row in committed.rows:
        if math.isfinite(seconds := mean_step_seconds(row)):
            training.setdefault(row["attempt"], []).append(seconds)
    sums = {attempt: math.fsum(seconds) for attempt, seconds in training.items()}
    return attempt_times(attempts, last_row, sums)


def mean_step_seconds(row: Mapping[str, Any]) -> float:
    """What a step took its workers on average, in seconds; NaN when none of them says.

    A worker's steps follow one another. The slowest's of each step would count the time twice in which one worker still
    ends a step and another has begun the next.
    """
    taken = [seconds for seconds in row.get("worker_step_seconds") or () if math.isfinite(seconds)]
    return math.fsum(taken) / len(taken) if taken else float(row.get("step_seconds", math.nan))


def attempt_times(
    attempts: Sequence[Attempt], last_row: Mapping[int, str], training_seconds: Mapping[int, float]
) -> dict[int, EffectiveTime]:
    """As `effective_times`, from the time of each attempt's last row and the sums of the seconds of its kept steps."""
    found = {}
    for attempt in attempts:
        is_told = attempt.ended is not None and not attempt.recovered
        end = attempt.ended if is_told else max(attempt.heard, last_row.get(attempt.number, ""))
        seconds = max(0.0, parse_utc(end or attempt.started) - parse_utc(attempt.started))
        found[attempt.number] = EffectiveTime(seconds, training_seconds.get(attempt.number, 0.0))
    return found


def total_time(times: Sequence[EffectiveTime]) -> EffectiveTime:
    """The time of several attempts together."""
    return EffectiveTime(math.fsum(time.seconds for time in times), math.fsum(time.training_seconds for time in times))


def costs(course: Course) -> Costs:
    """What the losses of a run cost. Raises LookupError, TypeError or ValueError for an event that is malformed."""
    resumptions: list[dict[str, Any]] = [
        {
            "workers": {(resumed["attempt"], worker) for worker in resumed["workers"]},
            "steps_redone": resumed.get("steps_redone"),
            "worker_seconds_lost": _seconds(resumed, "worker_seconds_lost"),
            "resume_seconds": _seconds(resumed, "seconds"),
        }
        for resumed in course.resumptions
    ]
    return Costs(
        losses=tuple(_loss(lost, resumptions) for lost in course.losses),
        nodes_lost=course.counts.get(events.NODE_LOST, 0),
        steps_redone=sum(resumed["steps_redone"] or 0 for resumed in resumptions),
        worker_seconds_lost=math.fsum(resumed["worker_seconds_lost"] or 0.0 for resumed in resumptions),
        resume_seconds=tuple(
            resumed["resume_seconds"] for resumed in resumptions if resumed["resume_seconds"] is not None
        ),
    )


def _loss(lost: dict[str, Any], resumptions: list[dict[str, Any]]) -> Loss:
    name = lost["attempt"], lost.get("worker")
    cost = next((resumed for resumed in resumptions if name in resumed["workers"]), {})
    return Loss(
        attempt=lost["attempt"],
        rank=lost["rank"],
        worker=lost.get("worker"),
        node=lost.get("node"),
        cause=lost["cause"],
        **{key: value for key, value in cost.items() if key != "workers"},
    )


def _seconds(fields: dict[str, Any], name: str) -> float | None:
    return decode_float(fields[name]) if fields.get(name) is not None else None
