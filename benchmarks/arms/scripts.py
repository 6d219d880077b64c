"""The training scripts of the other arms, watched through the marks that they leave."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from arms.costs import Mark, Workers
from arms.task import WORKERS

_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 180.0
_END_SECONDS = 60.0


class WatchedScript:
    """A script that runs `arms.ddp` in `folder`. A context, and raises RuntimeError, as `WatchedRun` does."""

    def __init__(self, folder: Path, command: list[str], **environment: str) -> None:
        self._folder = folder
        with (folder / "log").open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def settled(self, count: int, steps: int, after: int = -1) -> Workers:
        """Wait until a generation later than `after`, of `count` workers, has committed so many steps."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            marks = self.marks()
            generation = marks[-1].generation if marks else 0
            if generation > after and sum(mark.generation == generation for mark in marks) >= steps:
                workers = [line[1:] for line in self._lines("worker")]
                pids = {int(rank): int(pid) for rank, pid, *_ in workers}
                if len(pids) == count:
                    return Workers(generation, pids, {int(rank): " ".join(node) for rank, _, *node in workers})
            if self._process.poll() is not None:
                raise RuntimeError(f"the script ended:\n{(self._folder / 'log').read_text()}")
            time.sleep(_LOOK_SECONDS)
        raise RuntimeError(f"the script does not get on:\n{(self._folder / 'log').read_text()}")

    def stop(self) -> None:
        """End it at the next step boundary; what then does not end is killed as the context is left."""
        (self._folder / "stop").touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def marks(self) -> list[Mark]:
        """Every step in order; another process of the first worker is another generation."""
        found: list[Mark] = []
        pids: list[str] = []
        for _, step, pid, at in self._lines("step"):
            if pid not in pids:
                pids.append(pid)
            found.append(Mark(float(at), int(step), len(pids), WORKERS))
        return found

    def _lines(self, kind: str) -> list[list[str]]:
        path = self._folder / "marks"
        text = path.read_text() if path.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [line.split() for line in lines if line.startswith(kind)]


def stock_ray(folder: Path, address: str = "local") -> WatchedScript:
    """Stock Ray Train, on a Ray of its own (`local`) or on a cluster that is up."""
    environment = {"RAY_TRAIN_V2_ENABLED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return WatchedScript(folder, ["arms.stock_ray", str(folder), address], **environment)


def torchrun(folder: Path) -> WatchedScript:
    """torchrun, which starts all workers anew when one is lost."""
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}", "--max-restarts=1000000"]
    # By default a new start shares the store of the one before, and finds the addresses of dead workers there: it fails
    # or, now and then, hangs.
    environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return WatchedScript(folder, [*launch, "-m", "arms.torchrun", str(folder)], **environment)
