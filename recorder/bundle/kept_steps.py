"""Which rows count, for a run of any length: what `commit` decides, in memory that does not grow with the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recorder.bundle.step_ranges import Range, StepRanges, contains, merge, overlaps, subtract

Row = dict[str, Any]
Key = tuple[int, int]  # attempt and membership


class KeptSteps:
    """Goes through the rows once with `follow`, and then tells of each row whether it is the one that counts.

    As in `commit`, that is the row of the last attempt and membership that recorded the step, and a late row counts
    only where there is no other. Needs the columns step, attempt, membership and late. Memory grows with the number of
    memberships and of returns to earlier steps.
    """

    def __init__(self) -> None:
        self._recorded: dict[Key, StepRanges] = {}
        self._late = StepRanges()
        self._superseded: dict[Key, list[Range]] | None = None

    def follow(self, row: Row) -> None:
        """Take the next row. Raises LookupError or TypeError when it is malformed."""
        if row.get("late"):
            self._late.add(row["step"])
            return
        key = row["attempt"], row["membership"]
        self._recorded.setdefault(key, StepRanges()).add(row["step"])
        self._superseded = None

    @property
    def recorded(self) -> Mapping[Key, Sequence[Range]]:
        """The steps that each membership recorded, by attempt and membership, as merged ranges."""
        return {key: self._recorded[key].merged() for key in sorted(self._recorded)}

    @property
    def superseded(self) -> dict[Key, list[Range]]:
        """Of each membership the steps that a later one recorded too."""
        if self._superseded is None:
            self._superseded = {}
            later: list[Range] = []
            for key in sorted(self._recorded, reverse=True):
                own = self._recorded[key].merged()
                self._superseded[key] = overlaps([*own, *later])
                later = merge([*later, *own])
        return self._superseded

    def kept(self, row: Row) -> bool:
        """Whether this row counts, once all rows were followed."""
        if row.get("late"):
            return contains(self._only_late, row["step"])
        superseded = self.superseded[row["attempt"], row["membership"]]
        return not superseded or not contains(superseded, row["step"])

    @property
    def all(self) -> list[Range]:
        """Every step that counts, as merged ranges."""
        return merge([*(steps for ranges in self.recorded.values() for steps in ranges), *self._late.merged()])

    @property
    def _only_late(self) -> list[Range]:
        others = [steps for ranges in self.recorded.values() for steps in ranges]
        return subtract(self._late.merged(), others)
