"""The processes of a run: which of them has which rank, who is started in place of whom, who is killed."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Collection

from recorder.ledger.processes import kill
from train.config import ClusterConfig
from train.launch.job import Job, rank_of
from train.launch.launcher import Launcher
from train.membership.coordinator import START_SECONDS
from train.membership.messages import Hello
from train.membership.server import CoordinatorServer

MakeJob = Callable[[int, int], Job]

_ENDS_BY_ITSELF_SECONDS = 30.0


class Workforce:
    """Keeps one process a rank, from 0 to `scale`, as far as the launcher has room for them."""

    def __init__(self, config: ClusterConfig, launcher: Launcher, server: CoordinatorServer, make_job: MakeJob) -> None:
        self.scale = config.workers
        self.connected: dict[str, Hello] = {}
        self.is_open = False  # whether there is a cluster to start workers on
        self.untidy: set[str] = set()  # nodes in whose memory there may be snapshots
        self._config = config
        self._launcher = launcher
        self._server = server
        self._make_job = make_job
        self._room = config.workers
        self._workers: dict[int, str] = {}  # of each rank, the process that was started last and is not given up
        self._incarnations: dict[int, int] = {}
        self._fruitless: dict[int, int] = {}
        self._proven: set[str] = set()
        self._to_kill: dict[str, float] = {}
        self._starting: dict[str, float] = {}  # when each process began that has not connected yet
        self._is_winding_down = False

    def has(self, rank: int, worker: str) -> bool:
        """Whether `worker` is the process of the rank."""
        return self._workers.get(rank) == worker

    def strength(self) -> int:
        """How many ranks have a process that is there or on its way."""
        return len(self._workers.keys() | {hello.rank for hello in self.connected.values()})

    def start_all(self, room: int) -> None:
        """Start a process for every rank; there is room for so many."""
        self.is_open = True
        self.make_room(room)
        for rank in range(self.scale):
            self.start(rank)

    def make_room(self, room: int) -> None:
        """So many workers fit: when a run begins, or begins again, it waits for them."""
        self._room = room
        if not self._is_winding_down:
            expected = max(self._config.min_workers, min(self.scale, room))
            self._server.call(lambda coordinator, now: coordinator.expect(expected, now))

    def wind_down(self) -> None:
        """The run is about to end: nobody is waited for any more, and however few are there, they go on to the end."""
        self._is_winding_down = True
        self._server.call(lambda coordinator, now: coordinator.make_do(now))

    def set_scale(self, workers: int) -> None:
        """Go on with that many: more are started, or the highest ranks leave at a step boundary.

        Where there is no cluster, they are started with all others when there is one.
        """
        before, self.scale = self.scale, workers
        self.make_room(self._room)
        if self.is_open:
            for rank in range(before, workers):
                self.start(rank)
        for rank in range(workers, before):
            if worker := self._workers.pop(rank, None):
                self.let_go(worker, "scaled down")
                if worker not in self.connected:
                    self._launcher.kill(worker)

    def start(self, rank: int) -> None:
        """Start the next process of a rank."""
        job = self._make_job(rank, self._incarnations.get(rank, 0))
        self._incarnations[rank] = job.incarnation + 1
        self._workers[rank] = job.worker
        self._launcher.start(job)

    def replace(self, rank: int, in_vain: bool = True) -> bool:
        """Start another process for the rank; not if that was in vain `cluster.restarts` times in a row."""
        self.give_up(rank)
        self._fruitless[rank] = self._fruitless.get(rank, 0) + in_vain
        if self._fruitless[rank] > self._config.restarts:
            return False
        self.start(rank)
        return True

    def give_up(self, rank: int) -> None:
        """The rank's process is lost, or leaves."""
        self._workers.pop(rank, None)

    def has_left(self, worker: str, is_tidy: bool = False) -> None:
        """A worker has done its work: it is not there any more, and its end is no loss.

        One that stayed to the end `is_tidy`: it has removed the snapshots on its node.
        """
        hello = self.connected.pop(worker, None)
        if hello is not None and is_tidy:
            self.untidy.discard(hello.node)
        if hello is not None and self.has(hello.rank, worker):
            self.give_up(hello.rank)

    def took_part(self, workers: Collection[str]) -> None:
        """These workers have committed a round."""
        self._proven.update(workers)
        for worker in workers:
            self._fruitless[rank_of(worker)] = 0

    def is_dispensable(self, worker: str) -> bool:
        """Whether it has never taken part, while one that has is there: an error of it alone is no error of the run."""
        return worker not in self._proven and not self._proven.isdisjoint(self.connected)

    def let_go(self, worker: str, reason: str) -> None:
        """Have a worker leave at a step boundary."""
        self._server.call(lambda coordinator, now: coordinator.let_go(worker, reason, now))

    def urge(self, worker: str, reason: str) -> None:
        """Have a worker leave soon, also where too few stay: then a checkpoint is saved first."""
        self._server.call(lambda coordinator, now: coordinator.urge(worker, reason, now))

    def kill(self, hello: Hello, at_once: bool) -> None:
        """Make sure that a worker is dead: nothing it still does may reach the run.

        Who has lost its connection ends by itself. Killing it through Ray would hide what it died of, and is done
        `at_once` only for who must be stopped.
        """
        if hello.host == platform.node() and hello.pid != os.getpid():
            # Where this cannot be done the launcher has other means.
            with contextlib.suppress(PermissionError, TimeoutError):
                kill(hello.pid, hello.started, seconds=2)
        self._to_kill[hello.worker] = time.monotonic() + (0.0 if at_once else _ENDS_BY_ITSELF_SECONDS)

    def kill_remaining(self) -> None:
        """Kill through the launcher who should have ended by now."""
        for worker in [worker for worker, due in self._to_kill.items() if time.monotonic() >= due]:
            del self._to_kill[worker]
            self._launcher.kill(worker)

    def has_started(self, worker: str) -> None:
        """The launcher knows that the process runs."""
        if worker not in self.connected and worker in self._workers.values():
            self._starting[worker] = time.monotonic()

    def connect(self, hello: Hello) -> None:
        """A worker is there. One that was given up meanwhile is let go: a rank has one worker."""
        self.connected[hello.worker] = hello
        self.untidy.add(hello.node)
        self._starting.pop(hello.worker, None)
        if not self.has(hello.rank, hello.worker):
            self.let_go(hello.worker, "another one was started in its place")

    def kill_late(self) -> list[str]:
        """Kill who has not connected in START_SECONDS; which workers those are."""
        late = [worker for worker, began in self._starting.items() if time.monotonic() - began > START_SECONDS]
        for worker in late:
            del self._starting[worker]
            self._launcher.kill(worker)
        return late

    def has_ended(self, worker: str) -> None:
        """The launcher knows that the process is gone."""
        self._to_kill.pop(worker, None)
        self._starting.pop(worker, None)

    def lose_all(self) -> None:
        """The whole cluster is gone: what may still run is killed, and everything begins again."""
        self._starting.clear()
        self.is_open = False
        self._workers.clear()
        for hello in list(self.connected.values()):
            self.kill(hello, at_once=False)
        self._launcher.reopen()
