"""What the coordinator tells the driver. Times are seconds of the coordinator's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.membership.messages import Form, Hello
from train.step.quorum import Subject


@dataclass(frozen=True)
class WorkerConnected:
    """A worker is there, and prepares itself."""

    hello: Hello


@dataclass(frozen=True)
class NeedSource:
    """Everyone expected is here and nobody has a living state: `offers` are steps in node memory, by worker.

    `agreed` is the last step whose state all members had alike in this attempt, if any; `reason` is why nobody has one.
    """

    offers: Mapping[str, list[int]]
    agreed: int | None
    reason: str


@dataclass(frozen=True)
class Formed:
    """A membership was formed."""

    form: Form
    reason: str
    hellos: Mapping[str, Hello]
    now: float


@dataclass(frozen=True)
class FirstCommit:
    """The first round of a membership was committed: training goes on."""

    membership: int
    step: int
    now: float


@dataclass(frozen=True)
class WorkerLost:
    """A connection ended that should not have. `step` is the last committed one."""

    hello: Hello
    membership: int | None
    step: int
    last_heard: float
    now: float


@dataclass(frozen=True)
class WorkerExpelled:
    """A worker must be killed."""

    hello: Hello
    membership: int | None
    reason: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class WorkerLeft:
    """A worker was told to leave after `step`, as asked."""

    hello: Hello
    step: int
    reason: str


@dataclass(frozen=True)
class EndAgreed:
    """All members agreed that training is over, and how: nothing is lost with who dies from here on."""

    outcome: str


@dataclass(frozen=True)
class WorkerEnded:
    """A worker has done its work."""

    worker: str
    outcome: str


@dataclass(frozen=True)
class Difference:
    """Members had different results. Where it is `undecided` no majority was right, and the run must stop."""

    subject: Subject
    step: int
    digests: Mapping[str, str]
    expelled: list[int]
    membership: int
    undecided: bool


@dataclass(frozen=True)
class Waiting:
    """There are fewer workers than `cluster.min_workers`."""

    there: int
    needed: int


@dataclass(frozen=True)
class Stuck:
    """The exchange broke in so many memberships in a row, while every member was there: the run must stop."""

    memberships: int


Notice = (
    WorkerConnected
    | NeedSource
    | Formed
    | FirstCommit
    | WorkerLost
    | WorkerExpelled
    | WorkerLeft
    | EndAgreed
    | WorkerEnded
    | Difference
    | Waiting
    | Stuck
)
