"""A run of train.py that is watched through its own record while its workers are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from arms.costs import Mark, Workers
from recorder.bundle import layout
from recorder.bundle.rows import newest_rows, read_rows
from recorder.canonical import parse_utc
from recorder.ledger import events
from recorder.ledger.ledger import read_events

REPOSITORY = Path(__file__).parents[2]
_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 180.0


class WatchedRun:
    """`python train.py …` in `folder`; what still runs when the context is left is killed.

    Raises RuntimeError when it ends, or does not get on, while it is waited for.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self._output = folder / "train.log"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "train.py"), f"run.dir={folder}/runs", *arguments],
                cwd=folder,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        self._runs = folder / "runs"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text()

    @property
    def bundle(self) -> Path:
        """The run's bundle. Raises RuntimeError when there is none yet."""
        found = [path.parent for path in self._runs.glob(f"[!.]*/{layout.RUN}")]
        if not found:
            raise RuntimeError("there is no bundle yet")
        return found[0]

    def events(self, *types: str) -> list[dict[str, Any]]:
        """The recorded events of these types; none while there is no bundle."""
        if not any(self._runs.glob(f"[!.]*/{layout.RUN}")):
            return []
        return [event for event in read_events(self.bundle) if event["type"] in types]

    def settled(self, count: int, steps: int, after: int = -1) -> Workers:
        """Wait until a membership later than `after`, of `count` workers, has committed so many steps."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = self.newest()
            if found and found.generation > after and len(found.pids) == count and self._committed(found) >= steps:
                return found
            if self.process.poll() is not None:
                raise RuntimeError(f"train.py ended with {self.process.returncode}:\n{self.output()}")
            time.sleep(_LOOK_SECONDS)
        raise RuntimeError(f"train.py does not get on:\n{self.output()}")

    def wait(self, seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait for its end. Raises RuntimeError when it was not an orderly one."""
        if (code := self.process.wait(seconds)) not in (0, 128 + signal.SIGINT):
            raise RuntimeError(f"train.py ended with {code}:\n{self.output()}")

    def stop(self) -> None:
        """End it in order, at the next step boundary."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.wait()

    def marks(self) -> list[Mark]:
        """Every committed step, in the order they were recorded, those committed twice included."""
        changes = [event["fields"] for event in self.events(events.MEMBERSHIP_CHANGED)]
        workers = {fields["membership"]: len(fields["workers"]) for fields in changes}
        return [
            Mark(parse_utc(row["time"]), row["step"], row["membership"], workers[row["membership"]])
            for row in read_rows(self.bundle, layout.METRICS)
        ]

    def newest(self) -> Workers | None:
        """The newest membership in the record, if there is one."""
        changes = self.events(events.MEMBERSHIP_CHANGED)
        if not changes:
            return None
        fields = changes[-1]["fields"]
        workers = fields["workers"]
        return Workers(
            fields["membership"],
            {worker["rank"]: worker["pid"] for worker in workers},
            {worker["rank"]: worker["node"] for worker in workers},
        )

    def _committed(self, workers: Workers) -> int:
        rows = newest_rows(self.bundle, layout.METRICS)
        return sum(row["membership"] == workers.generation for row in rows)
