"""The committed series: of every step the one row that counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class CommittedSeries:
    """`rows` has one row a step, in order of the steps; `superseded` the other rows of the same steps, as recorded."""

    rows: list[Row]
    superseded: list[Row]

    @property
    def last_step(self) -> int | None:
        """The last committed step; None before the first."""
        return self.rows[-1]["step"] if self.rows else None


def commit(rows: Iterable[Row]) -> CommittedSeries:
    """Choose the row of each step: that of the last attempt and membership which recorded it.

    A late row (a worker's part that came after its step's row was written) counts only where there is no other.
    """
    chosen: dict[int, Row] = {}
    superseded = []
    for row in rows:
        before = chosen.get(row["step"])
        if before is None:
            chosen[row["step"]] = row
        elif _rank(row) >= _rank(before):
            superseded.append(before)
            chosen[row["step"]] = row
        else:
            superseded.append(row)
    return CommittedSeries([chosen[step] for step in sorted(chosen)], superseded)


def _rank(row: Row) -> tuple[bool, int, int]:
    return not row.get("late"), row["attempt"], row["membership"]
