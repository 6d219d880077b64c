"""Sets of steps as ranges: a few numbers for a run of any length."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]  # first and last, both included


class StepRanges:
    """Steps in the order in which they were added, as ranges; a repeated step is kept as a range of its own."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []

    def add(self, step: int) -> None:
        """Add one step; cheap when it follows the one added before."""
        if self._ranges and self._ranges[-1][1] + 1 == step:
            self._ranges[-1] = (self._ranges[-1][0], step)
        else:
            self._ranges.append((step, step))

    def raw(self) -> list[Range]:
        """The ranges as they came, which may overlap."""
        return list(self._ranges)

    def merged(self) -> list[Range]:
        """The same steps as sorted ranges that neither touch nor overlap."""
        return merge(self._ranges)


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The steps of `ranges` as sorted ranges that neither touch nor overlap."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def overlaps(ranges: Iterable[Range]) -> list[Range]:
    """The steps that are in more than one of `ranges`, merged."""
    found: list[Range] = []
    reached: int | None = None
    for first, last in sorted(ranges):
        if reached is not None and first <= reached:
            found.append((first, min(last, reached)))
        reached = last if reached is None else max(reached, last)
    return merge(found)


def subtract(ranges: Iterable[Range], others: Iterable[Range]) -> list[Range]:
    """The steps of `ranges` that are in none of `others`, merged."""
    left: list[Range] = []
    taken = merge(others)
    place = 0
    for first, last in merge(ranges):
        # A range of `taken` may reach into several of `ranges`: it is passed only when it ends before `first`.
        while place < len(taken) and taken[place][0] <= last:
            start, end = taken[place]
            if first < start:
                left.append((first, start - 1))
            first = max(first, end + 1)
            if end > last:
                break
            place += 1
        if first <= last:
            left.append((first, last))
    return left


def contains(ranges: Iterable[Range], step: int) -> bool:
    """Whether `step` is in one of `ranges`."""
    return any(first <= step <= last for first, last in ranges)


def shown(steps: Range) -> str:
    """`step 7` or `steps 7 to 9`."""
    return f"step {steps[0]}" if steps[0] == steps[1] else f"steps {steps[0]} to {steps[1]}"
