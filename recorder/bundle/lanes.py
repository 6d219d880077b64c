"""Who trained when: the life of every worker as a span in the lane of its node and rank.

A pure function of events and rows, in whatever order they come. All times are seconds since the first of them,
to the microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from recorder.bundle.course import Course
from recorder.bundle.stretches import Stretch, Stretches, stretches
from recorder.canonical import parse_utc, utc_text
from recorder.ledger import events

Event = dict[str, Any]
Row = dict[str, Any]

_ENDS = {events.WORKER_FINISHED: "finished", events.WORKER_DRAINED: "drained", events.WORKER_LOST: "lost"}
MARKS = frozenset(
    {
        events.ATTEMPT_STARTED,
        events.ATTEMPT_ENDED,
        events.MEMBERSHIP_CHANGED,
        events.CHECKPOINT_SAVED,
        events.CHECKPOINT_FAILED,
        events.CHECKPOINT_RESTORED,
        events.SNAPSHOT_SAVED,
        events.SNAPSHOT_SKIPPED,
        events.STATE_RECEIVED,
        events.STATE_DIFFERS,
        events.STEP_REDONE,
        events.NODE_JOINED,
        events.NODE_LOST,
        events.CLUSTER_LOST,
        events.NODE_DRAINING,
        events.WORKER_LOST,
        events.TRAINING_RESUMED,
        events.RUN_SCALED,
    }
)


@dataclass(frozen=True)
class Span:
    """The life of one worker process; it trained in `stretches`. `ended` is finished, drained, lost or None."""

    worker: str
    attempt: int
    begin: float
    end: float
    ended: str | None
    cause: str | None
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True)
class Lane:
    """The processes of one rank on one node, in order; `node` is None where no event says where they ran."""

    node: str | None
    rank: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Mark:
    """Something that happened at one moment: an event of one of the types in `MARKS`."""

    seconds: float
    attempt: int
    type: str
    fields: Event


@dataclass(frozen=True)
class Lanes:
    """A run over time. `start` is the UTC time at which `seconds` begin; no two spans of one rank overlap."""

    start: str
    seconds: float
    lanes: tuple[Lane, ...]
    stretches: tuple[Stretch, ...]
    marks: tuple[Mark, ...]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass
class _Process:
    """A worker process while its life is put together; times are POSIX seconds."""

    attempt: int
    rank: int
    worker: str
    begin: float
    node: str | None = None
    end: float | None = None
    ended: str | None = None
    cause: str | None = None
    stretches: list[Stretch] = field(default_factory=list)


def lanes(happened: Iterable[Event], rows: Iterable[Row]) -> Lanes:
    """Put the lanes together. Raises LookupError, TypeError, ValueError or AttributeError for malformed records."""
    ordered = sorted(happened, key=lambda event: (event["attempt"], event["time"]))
    trained = stretches(rows)
    times = [parse_utc(event["time"]) for event in ordered]
    start = min([*times, *(seen.begin for seen in trained.of_memberships)], default=0.0)
    end = max([*times, *(seen.end for seen in trained.of_memberships)], default=0.0)
    processes = _processes(ordered, trained)
    _end_lives(ordered, processes, _attempt_ends(ordered, trained), start)
    return Lanes(
        start=utc_text(start),
        seconds=round(end - start, 6),
        lanes=_lanes(_apart(list(processes.values())), start),
        stretches=tuple(seen.since(start) for seen in trained.of_memberships),
        marks=tuple(
            Mark(round(parse_utc(event["time"]) - start, 6), event["attempt"], event["type"], event["fields"])
            for event in ordered
            if event["type"] in MARKS
        ),
    )


def _processes(ordered: Sequence[Event], trained: Stretches) -> dict[tuple[int, str], _Process]:
    """Every process that joined, was in a membership or computed a step, by attempt and name."""
    found: dict[tuple[int, str], _Process] = {}
    names: dict[tuple[int, int, int], str] = {}

    def meet(attempt: int, membership: int, worker: Event, time: float) -> _Process:
        rank = worker["rank"]
        name = worker.get("worker") or _unnamed(rank, membership)
        names[attempt, membership, rank] = name
        process = found.setdefault((attempt, name), _Process(attempt, rank, name, time))
        process.begin = min(process.begin, time)
        process.node = process.node or worker.get("node")
        return process

    for event in ordered:
        fields, time = event["fields"], parse_utc(event["time"])
        if event["type"] == events.WORKER_JOINED:
            meet(event["attempt"], fields.get("membership", 0), fields, time)
        elif event["type"] == events.MEMBERSHIP_CHANGED:
            for worker in fields["workers"]:
                meet(event["attempt"], fields["membership"], worker, time)
    for rank, seen in sorted(trained.of_ranks, key=lambda part: part[1].begin):
        name = names.get((seen.attempt, seen.membership, rank)) or _unnamed(rank, seen.membership)
        process = found.setdefault((seen.attempt, name), _Process(seen.attempt, rank, name, seen.begin))
        process.stretches.append(seen)
    return found


def _unnamed(rank: int, membership: int) -> str:
    """A name for a process in records in which workers have none: there every membership begins anew."""
    return f"rank-{rank}.{membership}"


def _end_lives(
    ordered: Sequence[Event], processes: dict[tuple[int, str], _Process], ends: dict[int, float], start: float
) -> None:
    """Give each process its end: what the record says of it, or else the end of its attempt.

    A process was lost when it was last heard of, and not when that was noticed.
    """
    for event in ordered:
        ended, fields = _ENDS.get(event["type"]), event["fields"]
        if ended is None or fields.get("rank") is None:
            continue
        time = min(parse_utc(event["time"]), max(start, parse_utc(fields.get("last_heard") or event["time"])))
        process = _meant(event["attempt"], fields, time, processes)
        if process.ended is None:
            process.end, process.ended, process.cause = time, ended, fields.get("cause")
    for process in processes.values():
        if process.end is None:
            process.end = ends.get(process.attempt, process.begin)


def _meant(attempt: int, fields: Event, time: float, processes: dict[tuple[int, str], _Process]) -> _Process:
    """The process an event is about: that of its name, else the newest of its rank; one never met before is new."""
    rank, name = fields["rank"], fields.get("worker")
    if name is None:
        same = [process for process in processes.values() if (process.attempt, process.rank) == (attempt, rank)]
        before = [process for process in same if process.begin <= time]
        if newest := max(before or same, key=lambda process: process.begin, default=None):
            return newest
        name = _unnamed(rank, 0)
    new = _Process(attempt, rank, name, time, fields.get("node"))
    return processes.setdefault((attempt, name), new)


def _attempt_ends(ordered: Sequence[Event], trained: Stretches) -> dict[int, float]:
    """When each attempt ended, or was last heard of where only a later process says that it ended."""
    course = Course()
    for event in ordered:
        course.follow(event)
    ends = {
        attempt.number: parse_utc(attempt.ended if attempt.ended and not attempt.recovered else attempt.heard)
        for attempt in course.attempts.values()
    }
    for seen in trained.of_memberships:
        ends[seen.attempt] = max(ends.get(seen.attempt, seen.end), seen.end)
    return ends


def _apart(processes: list[_Process]) -> list[_Process]:
    """No process outlives the beginning of the next one of its rank, and none ends before it begins."""
    processes.sort(key=lambda process: (process.rank, process.begin, process.attempt, process.worker))
    for process in processes:
        process.end = max(process.begin, process.end or process.begin)
    for process, next_ in pairwise(processes):
        if process.rank == next_.rank and process.end is not None:
            process.end = min(process.end, next_.begin)
    return processes


def _lanes(processes: list[_Process], start: float) -> tuple[Lane, ...]:
    """The lanes by the first appearance of their nodes, then by rank."""
    spans: dict[tuple[str | None, int], list[Span]] = {}
    order: dict[str | None, float] = {}
    for process in processes:
        order[process.node] = min(order.get(process.node, process.begin), process.begin)
        end = process.end if process.end is not None else process.begin
        within = [seen.within(process.begin, end) for seen in process.stretches]
        spans.setdefault((process.node, process.rank), []).append(
            Span(
                worker=process.worker,
                attempt=process.attempt,
                begin=round(process.begin - start, 6),
                end=round(end - start, 6),
                ended=process.ended,
                cause=process.cause,
                stretches=tuple(seen.since(start) for seen in within if seen is not None),
            )
        )
    ordered = sorted(spans, key=lambda key: (order[key[0]], key[0] or "", key[1]))
    return tuple(Lane(node, rank, tuple(spans[node, rank])) for node, rank in ordered)
