"""What workers and the coordinator say to each other: one JSON object a line over TCP.

A worker says Hello once, then Ready whenever it is in no membership. The coordinator answers with Form. In a membership
each round goes: Busy (as often as there is reason to), Arrived (before the exchange), Vote (with the digest of its
result), Commit. A Reform in place of the Commit means that the round is dropped. Nothing of it is pickled, and the
first line must carry the run's token.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any, Literal, get_args

from train.step.quorum import Subject

Action = Literal["go on", "reform", "leave"]


@dataclass(frozen=True)
class Hello:
    """Who connects. `address` is where other workers reach it, `started` its process's start time."""

    token: str
    worker: str
    rank: int
    node: str
    host: str
    pid: int
    started: int
    address: str


class Stage(IntEnum):
    """What is due after a step, in order: the members compare states, evaluate, and save."""

    STATE = 0
    EVALUATION = 1
    SAVE = 2
    SETTLED = 3


@dataclass(frozen=True)
class Position:
    """Between which rounds a worker is: `step` steps are done, and `stage` is due next of what follows a step.

    `stopping` is set once a stop was requested: the same on all members, since it travels in the sum of a step.
    `saving` is set when the coordinator wants a checkpoint of this step.
    """

    step: int
    stage: int = Stage.SETTLED
    stopping: bool = False
    saving: bool = False


@dataclass(frozen=True)
class Ready:
    """In no membership. `position` of the state in memory, or None; `offers` are steps in this node's memory."""

    position: Position | None
    offers: list[int]


@dataclass(frozen=True)
class Arrived:
    """About to exchange in this round."""

    membership: int
    round: int


@dataclass(frozen=True)
class Busy:
    """Not at the exchange of this round yet, but getting on: with the state on its way, or with a checkpoint."""

    membership: int
    round: int


@dataclass(frozen=True)
class Vote:
    """What this round gave, as a digest: of the `sum` of a step, of the `state` after it, of an `evaluation`.

    An evaluation has a second round, about whether it is `recorded`: its digest is empty.
    """

    membership: int
    round: int
    subject: Subject
    step: int
    digest: str


@dataclass(frozen=True)
class Ended:
    """Training is over for this worker; losing the connection is no loss from here on."""

    outcome: str


@dataclass(frozen=True)
class Ping:
    """Still there."""


@dataclass(frozen=True)
class Seat:
    """One worker of a membership; its place in the list is its number in the exchange."""

    worker: str
    rank: int
    node: str


@dataclass(frozen=True)
class Source:
    """The state a membership begins with, and where those that lack it get it from."""

    kind: Literal["live", "memory", "storage", "fork", "start"]
    step: int
    path: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Form:
    """A new membership. `holders` have the source's state at hand, `savers` are one a node."""

    membership: int
    seats: list[Seat]
    source: Source
    position: Position
    holders: list[str]
    savers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Commit:
    """All voted alike in this round: apply it, then go on, wait for another membership, or leave the run.

    After the sum of a step, `save` asks for a checkpoint of it.
    """

    membership: int
    round: int
    action: Action = "go on"
    save: bool = False


@dataclass(frozen=True)
class Reform:
    """The membership is over and its round dropped. With `discard` the state in memory is not to be trusted."""

    membership: int
    discard: bool = False


@dataclass(frozen=True)
class Dismiss:
    """This worker is not needed any more."""

    reason: str


Message = Hello | Ready | Arrived | Busy | Vote | Ended | Ping | Form | Commit | Reform | Dismiss

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Message)}
_NESTED: dict[str, type] = {"position": Position, "source": Source}


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line. Raises ValueError for anything else."""
    try:
        content = json.loads(line)
        kind = _KINDS[content.pop("kind")]
        for name, nested in _NESTED.items():
            if content.get(name) is not None:
                content[name] = nested(**content[name])
        if "seats" in content:
            content["seats"] = [Seat(**seat) for seat in content["seats"]]
        message: Message = kind(**content)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a message of the coordinator's protocol: {error!r}") from None
    return message
