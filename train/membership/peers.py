"""What the coordinator knows of each connected worker, and of the membership that runs."""

from __future__ import annotations

from dataclasses import dataclass

from train.membership.messages import Form, Hello, Position, Ready, Vote


@dataclass
class Peer:
    """A connected worker. `seat` is the last membership it was in, `leaving` why it is to go, `since` when it came.

    Of the time since `last_heard` nobody could have heard it for `unheard` seconds.
    """

    hello: Hello
    since: float
    last_heard: float
    unheard: float = 0.0
    ready: Ready | None = None
    seat: int | None = None
    arrived: float | None = None
    vote: Vote | None = None
    leaving: str | None = None
    urged: bool = False  # to leave also where too few stay
    gone: bool = False  # has ended its work, was let go, or was expelled

    @property
    def position(self) -> Position | None:
        """Where it is, if it is ready with a state of its own."""
        return self.ready.position if self.ready is not None else None


@dataclass
class Membership:
    """The running membership and its present round.

    `changing`: it ends with this round, for somebody joins. `parting`: a checkpoint is saved for those who must leave.
    `busy` is when a member said last that it gets on with what the others wait for in this round.
    """

    form: Form
    round_began: float
    round: int = 0
    busy: float | None = None
    changing: bool = False
    parting: bool = False

    @property
    def workers(self) -> list[str]:
        """Its workers, in the order of their ranks."""
        return [seat.worker for seat in self.form.seats]
