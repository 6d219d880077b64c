"""Bundles of runs that recover in place: workers with names, memberships, losses, joins, drains, snapshots.

    path = recovered(root)                   # sealed: 3 nodes, one worker lost and replaced, one drained
    builder = RecoveryBuilder(root).create().start("node-a", "node-b").steps(1, 4)
    path = builder.lose(1).steps(5, 8).finish().close()

Rows and workers' events go through spools and the collector, as in a run. Time passes only where a builder says so: a
step takes `STEP_SECONDS`.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.bundles import BEGINNING, RunBuilder, fingerprint, step_values
from helpers.records import DETERMINISM, NODE, config_with
from recorder.bundle import layout
from recorder.canonical import digest, digest_json, utc_text
from recorder.ledger import events
from recorder.ledger.numbers import pack_numbers
from recorder.ledger.spool import SUFFIX, SpoolWriter

STEP_SECONDS = 0.5
MICRO_BATCHES = 6


class Clock:
    """A clock that stands still until it is told to advance, but for a microsecond each time it is asked."""

    def __init__(self, start: float = BEGINNING) -> None:
        self.now = start

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds


class Process:
    """One worker process: `rank-<rank>.<number>`, writing its own spool."""

    def __init__(self, folder: Path, clock: Clock, rank: int, number: int, node: str) -> None:
        self.rank, self.node, self.pid = rank, node, 1000 + 10 * rank + number
        self.name = f"rank-{rank}.{number}"
        self.joined = False
        self.spool = SpoolWriter(folder / f"{self.name}{SUFFIX}", clock)
        # No living process began at tick 1: a resume must not take this one for a worker and kill it.
        self.spool.write("hello", {"pid": os.getpid(), "started": 1, "host": socket.gethostname()})

    def event(self, type: str, /, **fields: Any) -> None:
        """Record an event."""
        self.spool.write("event", {"type": type, "fields": fields})

    def step(self, step: int, membership: int, workers: int, values: dict[str, Any]) -> None:
        """Record this worker's part of a step."""
        numbers = {name: value for name, value in values.items() if isinstance(value, float)}
        others = {name: value for name, value in values.items() if value is not None and name not in numbers}
        place = f',"membership":{membership},"rank":{self.rank},"workers":{workers}'
        packed = f'{place},"numbers":{pack_numbers(numbers)},"logged":{pack_numbers({})}'
        self.spool.write("step", {"step": step, **others}, packed)

    def close(self) -> None:
        """The process is gone; what it wrote stays."""
        self.spool.close()


@dataclass(frozen=True)
class Interruption:
    """What the builder remembers of a loss until training goes on."""

    workers: list[str]
    died: str
    noticed: str


class RecoveryBuilder(RunBuilder):
    """Plays the coordinator of one run and its workers. `step` is the last committed step."""

    def __init__(self, root: Path, run_id: str = "recovered-1", **options: Any) -> None:
        options.setdefault("config", config_with(train__micro_batches=MICRO_BATCHES, cluster__workers=3))
        super().__init__(root, run_id, clock=options.pop("clock", None) or Clock(), **options)
        self.ranks: list[Process] = []  # the members, by rank
        self.membership = -1
        self.step = 0
        self._numbers: dict[int, int] = {}
        self._interruption: Interruption | None = None

    def start(self, *nodes: str, kind: str = "start") -> RecoveryBuilder:
        """One worker on each of `nodes` begins, from the state of `step`."""
        self._numbers, self.ranks, self.membership = {}, [], -1
        for node in dict.fromkeys(nodes):
            self.run.event(events.NODE_JOINED, node=node, address="10.0.0.1")
        self.clock.advance(2.0)
        for rank, node in enumerate(nodes):
            self._launch(rank, node)
        return self._change("start", kind)

    def steps(self, first: int, last: int, **values: Any) -> RecoveryBuilder:
        """The members commit steps `first` to `last`; `values` replace what a step has of itself."""
        for step in range(first, last + 1):
            self.clock.advance(STEP_SECONDS)
            for process in self.ranks:
                own = step_values(step) | {"step_seconds": STEP_SECONDS} | values
                process.step(step, self.membership, len(self.ranks), own)
            self.step = step
            self._resumed()
        self.run.drain()
        return self

    def lose(self, rank: int, cause: str = "signal SIGKILL", expelled: str | None = None) -> RecoveryBuilder:
        """The worker of `rank` dies while the next step is computed; the others drop that step and redo it."""
        process = self._remove(rank)
        died = utc_text(self.clock())
        self.clock.advance(0.75)
        named = {"rank": rank, "worker": process.name, "pid": process.pid, "node": process.node}
        if expelled is not None:
            cause = f"expelled: {expelled}"
            evidence = {"silent_seconds": 0.75}
            self.run.event(
                events.WORKER_EXPELLED, **named, membership=self.membership, reason=expelled, evidence=evidence
            )
        noticed = utc_text(self.clock())
        self.run.event(
            events.WORKER_LOST,
            **named,
            membership=self.membership,
            last_step=self.step,
            cause=cause,
            evidence={"exit_signal": "SIGKILL"},
            last_heard=died,
            noticed=noticed,
        )
        self._interruption = Interruption([process.name], died, noticed)
        self._change("worker lost")
        return self._redo(self.step + 1, self.step + 1, "worker lost", recorded=0)

    def lose_node(self, node: str) -> RecoveryBuilder:
        """A node and its only worker are lost."""
        self.run.event(events.NODE_LOST, node=node, cause="node lost", evidence={"death_reason": 2})
        return self.lose(next(process.rank for process in self.ranks if process.node == node), "node lost")

    def replace(self, rank: int, node: str) -> RecoveryBuilder:
        """A new process takes over `rank`, with the state of the lowest member."""
        self.clock.advance(1.0)
        process = self._launch(rank, node)
        received = {"from_rank": self.ranks[0].rank, "step": self.step, "membership": self.membership + 1}
        process.event(
            events.STATE_RECEIVED,
            **received,
            rank=rank,
            worker=process.name,
            bytes=3200,
            seconds=0.01,
            fingerprint=fingerprint(self.step),
        )
        self.run.drain()
        return self._change("worker joined")

    def leave(self, rank: int, reason: str = "node drained") -> RecoveryBuilder:
        """The worker of `rank` leaves at a step boundary."""
        process = self._remove(rank)
        named = {"rank": rank, "worker": process.name, "pid": process.pid, "node": process.node}
        self.run.event(events.NODE_DRAINING, node=process.node, deadline=None, reason=reason)
        self.run.event(events.WORKER_DRAINED, **named, step=self.step, reason=reason)
        return self._change("worker left")

    def differ(self, rank: int, agreed: int, redone: bool = True) -> RecoveryBuilder:
        """The states differ after `step`: `rank` is expelled, and the others go back to the state of step `agreed`."""
        step = self.step
        digests = {str(process.rank): "0" * 16 if process.rank == rank else "1" * 16 for process in self.ranks}
        found = {"digests": digests, "expelled": [rank], "membership": self.membership}
        self.run.event(events.STATE_DIFFERS, step=step, subject="state", **found)
        process = self._remove(rank)
        named = {"rank": rank, "worker": process.name, "pid": process.pid, "node": process.node}
        self.run.event(events.WORKER_EXPELLED, **named, membership=self.membership, reason="state differs")
        noticed = utc_text(self.clock())
        self.run.event(
            events.WORKER_LOST,
            **named,
            membership=self.membership,
            last_step=step,
            cause="expelled: state differs",
            evidence={},
            last_heard=noticed,
            noticed=noticed,
        )
        self._interruption = Interruption([process.name], noticed, noticed)
        self.step = agreed
        if not redone:
            return self
        self.restored_from_memory(agreed)
        self._change("state differs", "memory")
        return self._redo(agreed + 1, step, "state differs", recorded=step - agreed)

    def snapshot(self) -> RecoveryBuilder:
        """The lowest member saves the state of `step` in its node's memory."""
        process = self.ranks[0]
        named = {"step": self.step, "node": process.node, "rank": process.rank, "worker": process.name}
        costs = {"bytes": 3200, "seconds": 0.02, "blocked_seconds": 0.001, "fingerprint": fingerprint(self.step)}
        process.event(events.SNAPSHOT_SAVED, **named, **costs)
        self.run.drain()
        return self

    def restored_from_memory(self, step: int) -> RecoveryBuilder:
        """The members go back to a node's snapshot."""
        node = self.ranks[0].node
        self.run.event(events.CHECKPOINT_RESTORED, step=step, path=None, source="memory", node=node, reason="newest")
        return self

    def finish(self) -> RecoveryBuilder:
        """All members end well."""
        for process in self.ranks:
            ended = {"outcome": "finished", "step": self.step, "fingerprint": fingerprint(self.step)}
            process.event(events.WORKER_FINISHED, rank=process.rank, worker=process.name, **ended)
        return self

    def _launch(self, rank: int, node: str) -> Process:
        number = self._numbers.get(rank, -1) + 1
        self._numbers[rank] = number
        process = Process(self.run.spool_folder, self.clock, rank, number, node)
        if number == rank == 0:
            process.event(events.NODE_ENVIRONMENT, node=node, environment=NODE)
        self.ranks = sorted([*self.ranks, process], key=lambda other: other.rank)
        return process

    def _join(self, process: Process, micro_batches: list[int]) -> None:
        """A process says what it is and does, once, when it is first in a membership."""
        named = {"rank": process.rank, "worker": process.name, "node": process.node, "pid": process.pid}
        used = {
            "config_digest": digest_json(self.config),
            "source_digest": digest(self.files.get(layout.SOURCE_ARCHIVE, b"")),
            "determinism": DETERMINISM["id"],
        }
        place = {"host": process.node, "device": "cpu", "membership": self.membership, "micro_batches": micro_batches}
        process.event(events.WORKER_JOINED, **named, **used, **place)
        process.joined = True

    def _remove(self, rank: int) -> Process:
        process = next(process for process in self.ranks if process.rank == rank)
        self.ranks.remove(process)
        process.close()
        return process

    def _change(self, reason: str, kind: str = "live") -> RecoveryBuilder:
        """The members form the next membership; the micro-batches are divided over them anew."""
        self.membership += 1
        total, count = self.config["train"]["micro_batches"], len(self.ranks)
        bounds = [total * place // count for place in range(count + 1)]
        workers = [
            {
                "rank": process.rank,
                "worker": process.name,
                "node": process.node,
                "pid": process.pid,
                "micro_batches": bounds[place : place + 2],
            }
            for place, process in enumerate(self.ranks)
        ]
        for process, worker in zip(self.ranks, workers, strict=True):
            if not process.joined:
                self._join(process, worker["micro_batches"])
        self.run.event(
            events.MEMBERSHIP_CHANGED,
            membership=self.membership,
            start_step=self.step,
            reason=reason,
            workers=workers,
            source={"kind": kind, "step": self.step},
        )
        self.run.drain()
        return self

    def _redo(self, first: int, last: int, reason: str, recorded: int) -> RecoveryBuilder:
        redone = {"first": first, "last": last, "membership": self.membership}
        self.run.event(events.STEP_REDONE, **redone, reason=reason, recorded=recorded)
        return self

    def _resumed(self) -> None:
        if (interruption := self._interruption) is None:
            return
        self._interruption = None
        resumed = utc_text(self.clock())
        self.run.event(
            events.TRAINING_RESUMED,
            membership=self.membership,
            workers=interruption.workers,
            died=interruption.died,
            noticed=interruption.noticed,
            resumed=resumed,
            seconds=1.25,
            steps_redone=1,
            worker_seconds_lost=2.5,
        )


def recovered(root: Path, run_id: str = "recovered-1", **options: Any) -> Path:
    """A sealed bundle of 24 steps: 3 nodes; rank 1 killed after step 6 and replaced; rank 2 drained after step 18."""
    builder = RecoveryBuilder(root, run_id, **options).create().start("node-a", "node-b", "node-c")
    builder.steps(1, 4).snapshot().steps(5, 6).lose(1).steps(7, 8).checkpoint(8).replace(1, "node-b")
    builder.steps(9, 16).snapshot().checkpoint(16).steps(17, 18).leave(2).steps(19, 24).checkpoint(24)
    return builder.finish().close()


def lost_node(root: Path, run_id: str = "recovered-2", **options: Any) -> Path:
    """A sealed bundle of 12 steps: a node lost after step 5, a worker expelled after step 9, nobody replaced."""
    builder = RecoveryBuilder(root, run_id, **options).create().start("node-a", "node-b", "node-c")
    builder.steps(1, 5).checkpoint(5).lose_node("node-c").steps(6, 9).lose(1, expelled="hung").steps(10, 12)
    return builder.checkpoint(12).finish().close()


def differed(root: Path, run_id: str = "recovered-3", **options: Any) -> Path:
    """A sealed bundle of 12 steps: rank 1's state differed at step 8, steps 5 to 8 were redone with other bits."""
    builder = RecoveryBuilder(root, run_id, **options).create().start("node-a", "node-b", "node-c")
    builder.steps(1, 4).snapshot().checkpoint(4).steps(5, 8, loss=9.5, gradient_digest="f" * 32, fingerprint=None)
    return builder.differ(1, agreed=4).steps(5, 12).checkpoint(12).finish().close()
