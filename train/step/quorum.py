"""What a step needs of the agreement among workers; how it is reached is none of its business."""

from __future__ import annotations

from typing import Literal, Protocol

Subject = Literal["sum", "state", "evaluation", "recorded", "end"]


class Quorum(Protocol):
    """The workers that must agree before a result is applied. Every method may raise to have the step dropped."""

    def check(self) -> None:
        """Raise when the round cannot be completed any more: called between micro-batches."""

    def arrive(self) -> None:
        """Called when this worker is about to exchange with the others."""

    def agree(self, subject: Subject, step: int, digest: str) -> None:
        """Return when all have the same `digest`: only then is the result applied."""


class Alone:
    """One worker agrees with itself."""

    def check(self) -> None:
        """Nothing can happen to the others."""

    def arrive(self) -> None:
        """Nobody waits."""

    def agree(self, subject: Subject, step: int, digest: str) -> None:
        """At once."""
