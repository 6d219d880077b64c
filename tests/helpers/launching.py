"""Stand-ins for what the driver talks to: a launcher and a coordinator that only note what they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from train.launch.job import Job
from train.membership.messages import Form, Hello, Position, Seat, Source, Stage
from train.membership.notices import Formed, WorkerLost

ELSEWHERE = "another-host"


def hello(worker: str, node: str = "node-a", **changes: Any) -> Hello:
    """What worker `rank-<r>.<n>` says of itself; it runs on another machine, unless `changes` say otherwise."""
    rank, number = (int(part) for part in worker.removeprefix("rank-").split("."))
    fields = {"host": ELSEWHERE, "pid": 1000 + 10 * rank + number, "started": 1, "address": "10.0.0.1"}
    return Hello("token", worker, rank, node, **fields | changes)


def formed(
    membership: int,
    workers: Sequence[str],
    step: int = 0,
    reason: str = "start",
    source: str = "live",
    stage: int = Stage.SETTLED,
    stopping: bool = False,
) -> Formed:
    """The notice that these workers form a membership after `step`."""
    hellos = {worker: hello(worker) for worker in workers}
    seats = [Seat(worker, hellos[worker].rank, hellos[worker].node) for worker in workers]
    form = Form(membership, seats, Source(source, step), Position(step, stage, stopping), list(workers))  # type: ignore[arg-type]
    return Formed(form, reason, hellos, 0.0)


def lost(worker: str, membership: int | None = 0, step: int = 0, now: float = 0.0, **changes: Any) -> WorkerLost:
    """The notice that the connection to a worker ended; it was last heard of a quarter of a second before `now`."""
    return WorkerLost(hello(worker, **changes), membership, step, now - 0.25, now)


def make_job(rank: int, incarnation: int) -> Job:
    """A job as the driver makes it; nobody does it."""
    return Job({}, "bundle", "data", "spool", 1, rank, incarnation, "host:1", "host:2", "token", "0" * 64, "cpu")


class NotingLauncher:
    """A launcher that starts nothing."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.killed: list[str] = []
        self.reopened = 0
        self.closed = 0

    def start(self, job: Job) -> None:
        self.started.append(job.worker)

    def kill(self, worker: str) -> None:
        self.killed.append(worker)

    def reopen(self) -> None:
        self.reopened += 1

    def close(self) -> None:
        self.closed += 1


class NotingCoordinator:
    """A coordinator behind its server: each call as its name and arguments, without the time."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def call(self, action: Callable[[Any, float], None]) -> None:
        action(self, 0.0)

    def expect(self, workers: int, now: float) -> None:
        self.told.append(("expect", workers))

    def make_do(self, now: float) -> None:
        self.told.append(("make_do",))

    def begin_from(self, source: Source, now: float) -> None:
        self.told.append(("begin_from", source))

    def let_go(self, worker: str, reason: str, now: float) -> None:
        self.told.append(("let_go", worker, reason))

    def died(self, worker: str) -> None:
        self.told.append(("died", worker))

    def urge(self, worker: str, reason: str, now: float) -> None:
        self.told.append(("urge", worker, reason))

    def save_soon(self) -> None:
        self.told.append(("save_soon",))
