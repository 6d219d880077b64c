"""The collector: carries what waits in one attempt's spool folder into the bundle, each record once.

Credentials in lines, and in what is kept of torn records, are masked before they reach the bundle, see
`recorder.release.secrets.masking`.

It only ever reads files: spools, and the raw stdout and stderr files beside them. Their names are
`<origin>.<incarnation>.<suffix>`; `origin` is `driver`, `rank-<r>` or `controller`. Nodes that do not share the folder
need something that mirrors their files into it; the collector does not change for them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recorder.errors import BundleError
from recorder.ledger import events
from recorder.ledger.ledger import SpoolOrigin
from recorder.ledger.logs import LogSource, RawTail
from recorder.ledger.records import Event, Message, Part, read_record
from recorder.ledger.spool import SUFFIX, SpoolLine, SpoolReader
from recorder.ledger.steps import StepAssembler
from recorder.ledger.streams import STDERR_SUFFIX, STDOUT_SUFFIX
from recorder.ledger.torn import torn_fields
from recorder.release.secrets.masking import LineMasker, mask_text

_STREAMS = {STDOUT_SUFFIX: "stdout", STDERR_SUFFIX: "stderr", SUFFIX: "logging"}
_KEPT_BYTES = 1 << 16


class Destination(Protocol):
    """Where the collector puts things: the open bundle."""

    attempt: int

    def add_event(self, type: str, fields: dict[str, Any], origin: SpoolOrigin | None = None) -> None:
        """Append an event to the ledger. Raises BundleError, and appends nothing, for one that is malformed."""

    def add_row(self, row: dict[str, Any], differing: Sequence[str]) -> None:
        """Append a row to the metrics; `differing` are values on which the workers did not agree."""

    def add_line(self, source: LogSource, time: float, text: str) -> None:
        """Append a line to the log of one process."""

    def lines_recorded(self, source: LogSource) -> int:
        """How many lines of the source are in the log already."""


@dataclass
class Collected:
    """What the ledger tells of an earlier collector of the same folder.

    `events` has for each spool the number of the last record whose event is there, `damage` the spool and the offset of
    what was kept because it could not be read.
    """

    events: dict[str, int] = field(default_factory=dict)
    damage: set[tuple[str, int]] = field(default_factory=set)

    def follow(self, event: dict[str, Any]) -> None:
        """Take the next event of the attempt from its ledger."""
        if "spool" in event:
            self.events[event["spool"]] = event["spool_seq"]
        elif event["type"] == events.SPOOL_TORN:
            self.damage.add((event["fields"]["spool"], event["fields"].get("offset", 0)))


class Collector:
    """Moves records from a spool folder to a destination. `poll` is one pass; call it from one thread only.

    With `collected` it goes on where an earlier collector was killed.
    """

    def __init__(
        self,
        folder: Path,
        destination: Destination,
        assembler: StepAssembler,
        collected: Collected | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._destination = destination
        self._assembler = assembler
        self._collected = collected or Collected()
        self._recovering = collected is not None
        self._clock = clock
        self._spools: dict[str, SpoolReader] = {}
        self._tails: dict[str, RawTail] = {}
        self._messages_to_skip: dict[str, int] = {}
        self._maskers: defaultdict[str, LineMasker] = defaultdict(LineMasker)

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
            offset = reader.offset
            if torn := reader.take_torn():
                self._report_damage(name, offset, torn)
        self.flush()

    def flush(self, before: int | None = None) -> None:
        """Carry over the steps, of memberships `before` this one or of all, that lack a part which will not come."""
        for row in self._assembler.flush(before):
            self._destination.add_row(row.values, row.differing)

    def _discover(self) -> None:
        for path in sorted(self._folder.glob("*.*")):
            name, suffix = path.name, path.suffix
            if suffix not in _STREAMS or name in self._spools or name in self._tails:
                continue
            recorded = self._destination.lines_recorded(_source(name)) if self._recovering else 0
            if suffix == SUFFIX:
                self._spools[name], self._messages_to_skip[name] = SpoolReader(path), recorded
            else:
                self._tails[name] = RawTail(path, recorded)

    def _carry_lines(self, name: str, lines: list[str]) -> int:
        if lines:
            source, now = _source(name), self._clock()
            for line in self._maskers[name].mask(lines):
                self._destination.add_line(source, now, line)
        return len(lines)

    def _poll_spool(self, name: str, reader: SpoolReader) -> int:
        lines = reader.read()
        for line in lines:
            self._carry(name, line)
        return len(lines)

    def _carry(self, name: str, line: SpoolLine) -> None:
        try:
            record = read_record(line.record or {})
        except ValueError:
            self._report_damage(name, line.offset, line.data)
            return
        if isinstance(record, Part):
            for row in self._assembler.add(record):
                self._destination.add_row(row.values, row.differing)
        elif isinstance(record, Event):
            self._carry_event(name, line, record)
        elif isinstance(record, Message):
            if self._messages_to_skip[name]:
                self._messages_to_skip[name] -= 1
            else:
                self._destination.add_line(_source(name), record.time, mask_text(record.text))

    def _carry_event(self, name: str, line: SpoolLine, event: Event) -> None:
        if line.number <= self._collected.events.get(name, 0):
            return
        try:
            self._destination.add_event(event.type, event.fields, (name, line.number, event.time))
        except BundleError:
            self._report_damage(name, line.offset, line.data)

    def _report_damage(self, name: str, offset: int, data: bytes) -> None:
        if (name, offset) in self._collected.damage:
            return
        fields = {"spool": name, "offset": offset, **torn_fields(data, _KEPT_BYTES)}
        self._destination.add_event(events.SPOOL_TORN, fields)


def _source(name: str) -> LogSource:
    origin, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return LogSource(origin, int(number) if number.isdecimal() else 0, _STREAMS[Path(name).suffix])
