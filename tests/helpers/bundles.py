"""Real bundles, made through `recorder.run.Run` as a training script makes them, in milliseconds and without torch.

    path = finished(root)                    # sealed after 12 steps by two workers
    path = resumed(root)                     # killed in the middle, resumed, sealed
    path = killed(root)                      # open: its driver was killed

`RunBuilder` is for other courses of events.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from helpers.records import DETERMINISM, NODE, captured_files, config_with
from recorder.bundle import layout
from recorder.bundle.files import DigestingHasher, make_read_only
from recorder.canonical import digest, digest_json, readable_json
from recorder.checkpoint.record import commit_marker
from recorder.ledger import events
from recorder.run import Run
from recorder.worker import WorkerRecorder

BEGINNING = 1_790_000_000.0


def ticking_clock(start: float = BEGINNING, tick: float = 0.001) -> Callable[[], float]:
    """A clock that goes on by `tick` seconds each time it is asked."""
    times = itertools.count()
    return lambda: start + tick * next(times)


class RunBuilder:
    """Plays the driver and the workers of one run. Nothing happens in the background: `drain` collects."""

    def __init__(
        self,
        root: Path,
        run_id: str = "demo-1",
        *,
        config: dict[str, Any] | None = None,
        clock: Callable[[], float] | None = None,
        workers: int = 2,
        files: dict[str, bytes] | None = None,
        **identity: Any,
    ) -> None:
        self.root = root
        self.path = root / run_id
        self.workers = workers
        self.clock = clock or ticking_clock()
        self.config = config or config_with()
        self.files = captured_files(self.config) if files is None else files
        self.spools = root.parent / f"{root.name}-spools"
        self.ranks: list[WorkerRecorder] = []
        self.run: Run
        named = {"name": "demo", "seed": 1, "command": "python train.py", "determinism": DETERMINISM, "parent": None}
        self._identity = named | identity

    def create(self) -> RunBuilder:
        """Begin the run and its first attempt."""
        self.run = Run.create(
            self.root,
            run_id=self.path.name,
            files=self.files,
            spools=self.spools,
            clock=self.clock,
            **self._identity,
        )
        return self._begin()

    def resume(self, config: dict[str, Any] | None = None) -> RunBuilder:
        """Begin a further attempt."""
        if config is not None:
            self.config, self.files = config, captured_files(config)
        self.run = Run.resume(self.path, spools=self.spools, clock=self.clock)
        return self._begin()

    def join(self, membership: int = 0, **fields: Any) -> RunBuilder:
        """All workers of a membership join; further `fields` go into their events."""
        # With its true start time a resume would take this very process for one of the dead attempt, and kill it.
        with mock.patch("recorder.worker.start_ticks", return_value=1):
            self.ranks = [
                WorkerRecorder(self.run.spool_folder, f"rank-{rank}", membership, rank, self.workers)
                for rank in range(self.workers)
            ]
        for rank, worker in enumerate(self.ranks):
            worker.spool._clock = self.clock
            worker.enter(membership, self.workers)
            if rank == 0:
                worker.event(events.NODE_ENVIRONMENT, node="node-a", environment=NODE)
            worker.event(events.WORKER_JOINED, **self._joined(rank, membership) | fields)
        self.run.drain()
        named = [{"rank": rank, "node": "node-a", "pid": 100 + rank} for rank in range(self.workers)]
        self.run.event(events.MEMBERSHIP_CHANGED, membership=membership, workers=named)
        return self

    def steps(self, first: int, last: int, **values: Any) -> RunBuilder:
        """All workers commit steps `first` to `last`; `values` replace what a step has of itself."""
        for step in range(first, last + 1):
            for worker in self.ranks:
                worker.step(step, **step_values(step) | values)
        return self

    def checkpoint(self, step: int, announce: bool = True) -> RunBuilder:
        """Rank 0 saves a checkpoint, which closes the segments."""
        self.run.drain()
        path = layout.checkpoint_folder(step)
        saved = write_checkpoint(self.path / path, step)
        if announce:
            self.ranks[0].event(events.CHECKPOINT_SAVED, step=step, path=path, files=saved)
            self.run.drain()
        return self

    def lose(self, rank: int) -> RunBuilder:
        """A worker is lost."""
        self.run.event(events.WORKER_LOST, rank=rank, pid=100 + rank, cause="killed by a signal", evidence="SIGKILL")
        return self

    def restored(self, step: int) -> RunBuilder:
        """The workers go on from a checkpoint."""
        path = layout.checkpoint_folder(step)
        self.run.event(events.CHECKPOINT_RESTORED, step=step, path=path, source="storage", reason="test")
        return self

    def print(self, *lines: str, origin: str = "rank-0.0") -> RunBuilder:
        """A process writes lines to its stdout."""
        with (self.run.spool_folder / f"{origin}.out").open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
        return self

    def drain(self) -> RunBuilder:
        """Collect everything that waits in the spools."""
        self.run.drain()
        return self

    def finish(self, step: int) -> RunBuilder:
        """Rank 0 evaluates, and all workers end well after `step`."""
        self.ranks[0].event(events.EVALUATED, step=step, split="validation", loss=1.75, seconds=0.5)
        for rank, worker in enumerate(self.ranks):
            ended = {"outcome": "finished", "step": step, "fingerprint": fingerprint(step)}
            worker.event(events.WORKER_FINISHED, rank=rank, **ended)
        return self

    def close(self, outcome: str = "finished") -> Path:
        """End the workers and seal the bundle."""
        for worker in self.ranks:
            worker.close()
        self.run.close(outcome)
        return self.path

    def kill(self) -> Path:
        """End everything as a SIGKILL of driver and workers would: what was not collected stays in the spools."""
        for worker in self.ranks:
            worker.close()
        self.run.abandon()
        return self.path

    def _begin(self) -> RunBuilder:
        placed = self.run.writer.put_files(self.files)
        self.run.begin_attempt(
            command="python train.py",
            host="node-a",
            pid=99,
            files=placed,
            config_digest=digest_json(self.config),
            source_digest=digest(self.files.get(layout.SOURCE_ARCHIVE, b"")),
        )
        self.run._stop_collecting()
        # Measured by the thread that was just stopped; the rest of the record follows from the clock.
        self.run._collector_cpu_seconds = 0.0
        return self

    def _joined(self, rank: int, membership: int) -> dict[str, Any]:
        return {
            "rank": rank,
            "node": "node-a",
            "host": "node-a",
            "pid": 100 + rank,
            "membership": membership,
            "micro_batches": [2 * rank, 2 * rank + 2],
            "device": "cpu",
            "determinism": DETERMINISM["id"],
            "config_digest": digest_json(self.config),
            "source_digest": digest(self.files.get(layout.SOURCE_ARCHIVE, b"")),
        }


def step_values(step: int) -> dict[str, Any]:
    """What every worker records of a step: a function of the step alone."""
    return {
        "loss": 4.0 / (1 + step / 8),
        "learning_rate": 0.003,
        "grad_norm": 1.0 / step,
        "tokens": 64 * step,
        "order_digest": digest(f"order {step}".encode())[:32],
        "gradient_digest": digest(f"gradient {step}".encode())[:32],
        "fingerprint": fingerprint(step) if step % 3 == 0 else None,
        "compute_seconds": 0.01,
        "exchange_seconds": 0.001,
        "update_seconds": 0.002,
        "step_seconds": 0.015,
    }


def fingerprint(step: int) -> str:
    """The fingerprint of the state after `step`."""
    return digest(f"state {step}".encode())[:16]


def write_checkpoint(folder: Path, step: int) -> dict[str, dict[str, Any]]:
    """A checkpoint with made-up tensors; the size and digests of its files."""
    folder.mkdir(parents=True)
    contents = {
        layout.CHECKPOINT_MODEL: f"model {step} ".encode() * 40,
        layout.CHECKPOINT_OPTIMIZER: f"optimizer {step} ".encode() * 80,
    }
    records = {name: _write(folder / name, data) for name, data in contents.items()}
    state = {"tokens": 64 * step, "fingerprint": fingerprint(step)}
    marker = readable_json(commit_marker(step, state, records))
    return records | {layout.CHECKPOINT_STATE: _write(folder / layout.CHECKPOINT_STATE, marker)}


def _write(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data)
    make_read_only(path)
    hasher = DigestingHasher()
    hasher.update(data)
    return hasher.digest().record()


def finished(root: Path, run_id: str = "demo-1", **options: Any) -> Path:
    """A sealed bundle of a run that went well: 12 steps, checkpoints after 5, 10 and 12, the newest two kept."""
    builder = RunBuilder(root, run_id, **options).create().join()
    builder.run.writer.keep = 2
    builder.print("hello", "world").steps(1, 5).checkpoint(5).steps(6, 10).checkpoint(10).steps(11, 12).checkpoint(12)
    return builder.finish(12).close()


def failed(root: Path, run_id: str = "demo-1", **options: Any) -> Path:
    """A sealed bundle of a run that ended with an exception at step 4."""
    builder = RunBuilder(root, run_id, **options).create().join().steps(1, 3)
    builder.run.event(events.EXCEPTION, rank=1, kind="ValueError", message="no such token", traceback="Traceback")
    return builder.close("failed")


def killed(root: Path, run_id: str = "demo-1", **options: Any) -> Path:
    """An open bundle: driver and workers were killed after step 8; steps 7 and 8 wait in the spools."""
    return killed_builder(root, run_id, **options).path


def killed_builder(root: Path, run_id: str = "demo-1", **options: Any) -> RunBuilder:
    """As `killed`, with what is needed to resume it."""
    builder = RunBuilder(root, run_id, **options).create().join().print("first line")
    builder.steps(1, 5).checkpoint(5).steps(6, 6).drain().steps(7, 8).kill()
    return builder


def resumed(root: Path, run_id: str = "demo-1", **options: Any) -> Path:
    """A sealed bundle of a run that was killed after step 8, resumed from the checkpoint of step 5, and finished."""
    builder = killed_builder(root, run_id, **options).resume().restored(5).join()
    return builder.steps(6, 10).checkpoint(10).steps(11, 12).finish(12).close()


def continued(root: Path, run_id: str = "demo-1", **options: Any) -> Path:
    """A bundle that was sealed twice: interrupted after step 5, resumed and finished."""
    builder = RunBuilder(root, run_id, **options).create().join().steps(1, 5).checkpoint(5)
    builder.close("interrupted")
    return builder.resume().restored(5).join().steps(6, 12).checkpoint(12).finish(12).close()
