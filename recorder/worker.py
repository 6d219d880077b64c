"""The recorder inside a worker: a step is one record in the worker's spool, handed over in one write call."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recorder.ledger.columns import check_user_metric
from recorder.ledger.numbers import pack_numbers
from recorder.ledger.processes import start_ticks
from recorder.ledger.records import SHARED, TIMES
from recorder.ledger.spool import SUFFIX, SpoolWriter
from recorder.mailbox import Mailbox

_ORIGIN = re.compile(r"[a-z0-9][a-z0-9_-]*")
_STEP_VALUES = frozenset(SHARED + TIMES)

_active: WorkerRecorder | None = None


class WorkerRecorder:
    """Writes what one process of a run has to say into its own spool.

    `origin` is what the process does: `rank-<r>`, `driver`. One that takes over from a lost process has another
    `incarnation`, counted from 0, and so another spool. Raises ValueError for an origin that cannot name a file, and
    RecordingError when the spool cannot be written or is there already.
    """

    def __init__(self, folder: Path, origin: str, incarnation: int = 0, rank: int = 0, workers: int = 1) -> None:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"origin {origin!r} is not allowed: lower-case letters, digits, '_' and '-'")
        self.folder = folder
        self.origin = origin
        self.rank = rank
        self.mailbox = Mailbox(folder)
        self.spool = SpoolWriter(folder / f"{origin}.{incarnation}{SUFFIX}")
        self.spool.write(
            "hello", {"pid": os.getpid(), "started": start_ticks(os.getpid()), "host": socket.gethostname()}
        )
        self.enter(0, workers)
        self.cpu_seconds = 0.0
        self._logged: dict[str, float] = {}
        self._named: set[str] = set()

    def enter(self, membership: int, workers: int) -> None:
        """From the next step on, steps are those of `membership`, shared by that many workers."""
        self._identity = f',"membership":{membership:d},"rank":{self.rank:d},"workers":{workers:d}'

    def log(self, metrics: dict[str, float]) -> None:
        """Add numbers of the user's to the row of the current step.

        Raises ValueError for a value that is not a number and for a name that the record uses itself.
        """
        if not self._named.issuperset(metrics):
            for name in metrics:
                check_user_metric(name)
            self._named.update(metrics)
        numbers = {name: value if type(value) is float else _number(name, value) for name, value in metrics.items()}
        self._logged.update(numbers)

    def step(self, step: int, **values: Any) -> None:
        """Record committed step `step` (counted from 1) with its values and what was logged since the last one.

        Raises ValueError for a value whose name is none of `SHARED` and `TIMES` of `recorder.ledger.records`.
        """
        if not _STEP_VALUES.issuperset(values):
            unknown = ", ".join(sorted(values.keys() - _STEP_VALUES))
            raise ValueError(f"a step has no {unknown}; record numbers of your own with log")
        record: dict[str, Any] = {"step": step}
        numbers: dict[str, float] = {}
        for name, value in values.items():
            if isinstance(value, float):
                numbers[name] = value
            elif value is not None:
                record[name] = value
        packed = f'{self._identity},"numbers":{pack_numbers(numbers)},"logged":{pack_numbers(self._logged)}'
        self.spool.write("step", record, packed)
        self._logged = {}

    def event(self, type: str, /, **fields: Any) -> None:
        """Record an event."""
        self.spool.write("event", {"type": type, "fields": fields})

    @contextmanager
    def accounted(self) -> Iterator[None]:
        """Count the CPU seconds of this block in `cpu_seconds`: what recording costs is part of the record."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.cpu_seconds += time.thread_time() - began

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


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"metric {name!r} is {type(value).__name__}; log a number") from None
