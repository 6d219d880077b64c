"""One row a step out of what each worker wrote of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from recorder.ledger.records import SHARED, TIMES, Part

Key = tuple[int, int]


@dataclass(frozen=True)
class StepRow:
    """A row of the metrics, and the shared values in which the workers it is made from differ."""

    values: dict[str, Any]
    differing: list[str]


class StepAssembler:
    """Joins the parts of a step of one attempt, one a worker, into its row.

    A row is handed out when all workers of the membership have sent their part, or when `flush` is called. A part that
    comes after its row, or again, becomes a row of its own marked `late`: nothing recorded is dropped.

    `recorded` are rows that an earlier collector of the same spools made: each part in them is passed over once.
    """

    def __init__(self, attempt: int, recorded: Iterable[dict[str, Any]] = ()) -> None:
        self._attempt = attempt
        self._pending: dict[Key, dict[int, Part]] = {}
        self._written: defaultdict[int, _Steps] = defaultdict(_Steps)
        self._recorded: Counter[tuple[int, int, int]] = Counter()
        for row in recorded:
            self._written[row["membership"]].add(row["step"])
            self._recorded.update((row["membership"], row["step"], rank) for rank in row.get("worker_rank", []))

    def add(self, part: Part) -> list[StepRow]:
        """Take one worker's part; the rows that it completes."""
        key = (part.membership, part.step)
        if self._recorded[*key, part.rank]:
            self._recorded[*key, part.rank] -= 1
            return []
        if part.step in self._written[part.membership]:
            return [self._row(key, {part.rank: part}, late=1)]
        parts = self._pending.setdefault(key, {})
        if part.rank in parts:
            return [self._row(key, self._pending.pop(key)), self._row(key, {part.rank: part}, late=1)]
        parts[part.rank] = part
        return [self._row(key, self._pending.pop(key))] if len(parts) == part.workers else []

    def flush(self, before: int | None = None) -> list[StepRow]:
        """The rows of all steps, of memberships `before` this one or of all, that still lack a part, in order."""
        due = sorted(key for key in self._pending if before is None or key[0] < before)
        return [self._row(key, self._pending.pop(key)) for key in due]

    def _row(self, key: Key, parts: dict[int, Part], late: int | None = None) -> StepRow:
        membership, step = key
        self._written[membership].add(step)
        ordered = [parts[rank] for rank in sorted(parts)]
        first = ordered[0]
        values: dict[str, Any] = {"step": step, "attempt": self._attempt, "membership": membership, "time": first.time}
        values |= first.shared | _times(ordered) | {"worker_rank": sorted(parts)}
        for part in reversed(ordered):
            values |= part.logged
        if late:
            values["late"] = late
        return StepRow(values, differing(ordered))


def differing(parts: list[Part]) -> list[str]:
    """The shared values on which workers differ; empty when the step has one truth."""
    return [name for name in SHARED if len({repr(part.shared.get(name)) for part in parts}) > 1]


def _times(parts: list[Part]) -> dict[str, Any]:
    """Each time that any worker took, with NaN for one that did not, and how long the slowest took for the step."""
    taken = [name for name in TIMES if any(name in part.times for part in parts)]
    times: dict[str, Any] = {f"worker_{name}": [part.times.get(name, math.nan) for part in parts] for name in taken}
    if "step_seconds" in taken:
        times["step_seconds"] = max(part.times["step_seconds"] for part in parts if "step_seconds" in part.times)
    return times


class _Steps:
    """A set of steps in constant memory where they come in order, as nearly all do."""

    def __init__(self) -> None:
        self._run = range(0)
        self._others: set[int] = set()

    def add(self, step: int) -> None:
        if step in self:
            return
        if not self._run:
            self._run = range(step, step)
        self._others.add(step)
        while (end := self._run.stop) in self._others:
            self._others.remove(end)
            self._run = range(self._run.start, end + 1)

    def __contains__(self, step: int) -> bool:
        return step in self._run or step in self._others
