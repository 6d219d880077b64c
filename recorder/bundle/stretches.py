"""Which steps each membership computed, and when: the rows of a run of any length in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from recorder.canonical import parse_utc


@dataclass(frozen=True)
class Stretch:
    """Steps `first` to `last` of one membership, from the beginning of the earliest to the end of the latest.

    Times are seconds, since 1970 or since whatever the reader counts from.
    """

    attempt: int
    membership: int
    begin: float
    end: float
    first: int
    last: int

    def since(self, start: float) -> Stretch:
        """The same counted from `start`, to the microsecond."""
        begin, end = round(self.begin - start, 6), round(self.end - start, 6)
        return Stretch(self.attempt, self.membership, begin, end, self.first, self.last)

    def within(self, begin: float, end: float) -> Stretch | None:
        """The part of it between two times; None where there is none."""
        first, last = max(self.begin, begin), min(self.end, end)
        return Stretch(self.attempt, self.membership, first, last, self.first, self.last) if first <= last else None

    def joined(self, other: Stretch) -> Stretch:
        """This stretch and another one of the same membership as one."""
        begin, end = min(self.begin, other.begin), max(self.end, other.end)
        first, last = min(self.first, other.first), max(self.last, other.last)
        return Stretch(self.attempt, self.membership, begin, end, first, last)


@dataclass(frozen=True)
class Stretches:
    """One stretch for each membership, in order of time, and those of each rank in it."""

    of_memberships: list[Stretch]
    of_ranks: list[tuple[int, Stretch]]


def stretches(rows: Iterable[dict[str, Any]]) -> Stretches:
    """Go through the rows once. A late row does not say when its step was computed and is passed over.

    Raises LookupError, TypeError or ValueError for a row that is malformed.
    """
    by_workers: dict[tuple[int, int, tuple[int, ...]], Stretch] = {}
    for row in rows:
        if row.get("late"):
            continue
        ended, took = parse_utc(row["time"]), row.get("step_seconds") or 0.0
        began = ended - took if 0 <= took < ended else ended
        key = row["attempt"], row["membership"], tuple(row.get("worker_rank") or ())
        seen = Stretch(row["attempt"], row["membership"], began, ended, row["step"], row["step"])
        by_workers[key] = by_workers[key].joined(seen) if key in by_workers else seen
    whole: dict[tuple[int, int], Stretch] = {}
    parts: dict[tuple[int, int, int], Stretch] = {}
    for (attempt, membership, ranks), seen in by_workers.items():
        whole[attempt, membership] = seen.joined(whole.get((attempt, membership), seen))
        for rank in ranks:
            parts[attempt, membership, rank] = seen.joined(parts.get((attempt, membership, rank), seen))
    return Stretches(
        sorted(whole.values(), key=lambda seen: seen.begin),
        [(rank, seen) for (_, _, rank), seen in parts.items()],
    )
