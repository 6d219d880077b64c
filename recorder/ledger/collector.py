"""The collector: carries what waits in one attempt's spool folder into the bundle, each record once.

It only ever reads files: spools, and the raw stdout and stderr files beside them. Their names are
`<origin>.<membership>.<suffix>`; `origin` is `driver`, `rank-<r>` or `controller`. Nodes that do not share the folder
need something that mirrors their files into it; the collector does not change for them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from recorder.canonical import utc_text
from recorder.ledger import events
from recorder.ledger.ledger import SpoolOrigin
from recorder.ledger.logs import RawTail
from recorder.ledger.spool import SUFFIX, SpoolReader
from recorder.ledger.steps import StepAssembler
from recorder.ledger.streams import STDERR_SUFFIX, STDOUT_SUFFIX

_STREAMS = {STDOUT_SUFFIX: "stdout", STDERR_SUFFIX: "stderr"}


class Destination(Protocol):
    """Where the collector puts things: the open bundle."""

    attempt: int

    def add_event(self, type: str, fields: dict[str, Any], origin: SpoolOrigin | None = None) -> None:
        """Append an event to the ledger."""

    def add_row(self, row: dict[str, Any]) -> None:
        """Append a row to the metrics."""

    def add_line(self, origin: str, time: float, stream: str, text: str) -> None:
        """Append a line to the log of one process."""

    def lines_recorded(self, origin: str, stream: str) -> int:
        """How many lines of the stream are in the log of one process."""


class Collector:
    """Moves records from a spool folder to a destination. `poll` is one pass; call it from one thread only.

    With `collected` (spool name to the highest record number whose event is in the ledger) it goes on where an earlier
    collector was killed.
    """

    def __init__(
        self,
        folder: Path,
        destination: Destination,
        assembler: StepAssembler,
        collected: dict[str, int] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._destination = destination
        self._assembler = assembler
        self._collected = collected or {}
        self._recovering = collected is not None
        self._clock = clock
        self._spools: dict[str, SpoolReader] = {}
        self._tails: dict[str, RawTail] = {}
        self._skips: dict[tuple[str, str], int] = {}

    def poll(self) -> int:
        """Carry over everything that is whole; the number of records and lines carried."""
        self._discover()
        carried = sum(self._carry_lines(name, tail.read()) for name, tail in self._tails.items())
        return carried + sum(self._poll_spool(name, reader) for name, reader in self._spools.items())

    def finish(self) -> None:
        """Carry over all that is left once every writer is gone: unfinished lines and torn records are kept as such."""
        while self.poll():
            pass
        for name, tail in self._tails.items():
            self._carry_lines(name, tail.finish())
        for name, reader in self._spools.items():
            if torn := reader.torn():
                self._report_damage(name, torn)
        for row in self._assembler.flush():
            self._destination.add_row(row)

    def _discover(self) -> None:
        for path in sorted(self._folder.glob("*.*")):
            name, suffix = path.name, path.suffix
            if suffix == SUFFIX and name not in self._spools:
                self._spools[name] = SpoolReader(path)
            elif suffix in _STREAMS and name not in self._tails:
                self._tails[name] = RawTail(path, self._lines_to_skip(path))

    def _carry_lines(self, name: str, lines: list[str]) -> int:
        if lines:
            origin, now, stream = _origin(name), self._clock(), _STREAMS[Path(name).suffix]
            for line in lines:
                self._destination.add_line(origin, now, stream, line)
        return len(lines)

    def _poll_spool(self, name: str, reader: SpoolReader) -> int:
        batch = reader.read()
        for line in batch.damaged:
            self._report_damage(name, line)
        for record in batch.records:
            self._carry(name, record)
        return len(batch.records) + len(batch.damaged)

    def _carry(self, name: str, record: dict[str, Any]) -> None:
        kind = record.get("k")
        if kind == "step":
            part = record | {"time": utc_text(record["t"])}
            if row := self._assembler.add(self._destination.attempt, part):
                self._destination.add_row(row)
        elif kind == "event":
            if record["n"] > self._collected.get(name, 0):
                self._destination.add_event(record["type"], record["fields"], (name, record["n"], record["t"]))
        elif kind == "log" and not self._skip(name, "logging"):
            text = f"{record['level']} {record['logger']}: {record['text']}"
            self._destination.add_line(_origin(name), record["t"], "logging", text)

    def _report_damage(self, name: str, data: bytes) -> None:
        fields = {"spool": name, "bytes": len(data), "base64": base64.b64encode(data[:65536]).decode()}
        self._destination.add_event(events.SPOOL_TORN, fields)

    def _skip(self, name: str, stream: str) -> bool:
        """Whether this line is in the log already, because an earlier collector carried it."""
        if not self._recovering:
            return False
        key = (_origin(name), stream)
        left = self._skips.setdefault(key, self._destination.lines_recorded(*key))
        self._skips[key] = max(0, left - 1)
        return left > 0

    def _lines_to_skip(self, path: Path) -> int:
        if not self._recovering:
            return 0
        lines = path.read_bytes().count(b"\n")
        stream = _STREAMS[path.suffix]
        return sum(self._skip(path.name, stream) for _ in range(lines))


def _origin(name: str) -> str:
    return name.split(".", 1)[0]
