"""Rows from a time in which the workers' states differed: they are superseded, and may have any bits.

When the workers find that their states differ, they return to the last state that all agreed on and compute the steps
since then again. What was recorded of those steps before is kept, and says nothing about determinism.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recorder.ledger import events


@dataclass(frozen=True)
class SupersededSteps:
    """Steps `first` to `last` in the memberships of `attempt` before `membership`; None where there is no bound."""

    attempt: int
    membership: int | None
    first: int
    last: int

    def covers(self, attempt: int, membership: int, step: int) -> bool:
        """Whether a row of `step` is one of these."""
        earlier = self.membership is None or membership < self.membership
        return attempt == self.attempt and earlier and self.first <= step <= self.last


@dataclass
class StateDifferences:
    """What the ledger says of states that differed: each `state.differs` and the steps it made void."""

    superseded: list[SupersededSteps] = field(default_factory=list)
    stated: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # attempt and fields
    _open: tuple[int, int] | None = None  # attempt and step of a difference whose steps are not yet redone

    def follow(self, attempt: int, kind: str, fields: dict[str, Any]) -> None:
        """Take the next event of the ledger, well formed by its schema."""
        if kind == events.STATE_DIFFERS and fields["subject"] == "state":
            self.stated.append((attempt, fields))
            self._open = attempt, fields["step"]
        elif self._open is None:
            return
        elif kind == events.STEP_REDONE and attempt == self._open[0]:
            self._close(fields.get("membership"), fields.get("first", 1), fields.get("last", self._open[1]))
        elif kind == events.MEMBERSHIP_CHANGED and attempt > self._open[0]:
            # The driver died before the return; a later attempt went on from an agreed state, that of this step.
            self._close(None, fields.get("start_step", 0) + 1, self._open[1])

    def cover(self, attempt: int, membership: int, step: int) -> bool:
        """Whether a row of `step` is from a time in which the states differed."""
        return any(steps.covers(attempt, membership, step) for steps in self.superseded)

    def _close(self, membership: int | None, first: int, last: int) -> None:
        if self._open is not None:
            self.superseded.append(SupersededSteps(self._open[0], membership, first, last))
        self._open = None
