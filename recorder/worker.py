"""The recorder inside a worker: a step is one record in the worker's spool, handed over in one write call."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from recorder.ledger.columns import KNOWN
from recorder.ledger.processes import start_ticks
from recorder.ledger.spool import SUFFIX, SpoolWriter
from recorder.mailbox import Mailbox

_active: WorkerRecorder | None = None


class WorkerRecorder:
    """Writes what one process of a run has to say into its own spool.

    `origin` names the process: `rank-<r>`, `driver`, `controller`. A process that takes over a rank after a relaunch
    has another `membership` and so another spool.
    """

    def __init__(self, folder: Path, origin: str, membership: int = 0, rank: int = 0, workers: int = 1) -> None:
        self.folder = folder
        self.origin = origin
        self.membership = membership
        self.rank = rank
        self.workers = workers
        self.mailbox = Mailbox(folder)
        self.spool = SpoolWriter(folder / f"{origin}.{membership}{SUFFIX}")
        self.spool.write(
            "hello", {"pid": os.getpid(), "started": start_ticks(os.getpid()), "host": socket.gethostname()}
        )
        self._logged: dict[str, float] = {}

    def log(self, metrics: dict[str, float]) -> None:
        """Add numbers of the user's to the row of the current step.

        Raises ValueError for a value that is not a number and for a name that the record uses itself.
        """
        for name, value in metrics.items():
            if name in KNOWN or name.startswith("_"):
                raise ValueError(f"metric {name!r} is a column of the record; choose another name")
            try:
                self._logged[name] = float(value)
            except (TypeError, ValueError):
                raise ValueError(f"metric {name!r} is {type(value).__name__}; log a number") from None

    def step(self, step: int, **values: Any) -> None:
        """Record committed step `step` (counted from 1) with its values and what was logged since the last one."""
        record = {"step": step, "membership": self.membership, "rank": self.rank, "workers": self.workers, **values}
        if self._logged:
            record["logged"], self._logged = self._logged, {}
        self.spool.write("step", record)

    def event(self, type: str, /, **fields: Any) -> None:
        """Record an event."""
        self.spool.write("event", {"type": type, "fields": fields})

    def activate(self) -> None:
        """Make this the recorder that `log` of this module writes to."""
        global _active
        _active = self

    def close(self) -> None:
        """Close the spool; the collector takes what is in it."""
        global _active
        if _active is self:
            _active = None
        self.spool.close()


def log(metrics: dict[str, float]) -> None:
    """Add numbers to the row of the current step, from anywhere in a training script or a model.

    Raises RuntimeError outside a recorded run and ValueError for what is not a number.
    """
    if _active is None:
        raise RuntimeError("recorder.log was called outside a recorded run")
    _active.log(metrics)
