"""The ledger: the append-only, hash-chained record of events, in segments."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import (
    DigestingHasher,
    FileDigest,
    append_whole,
    make_read_only,
    make_writable,
    recording_errors,
    sync_folder,
)
from recorder.canonical import digest, utc_text
from recorder.errors import BundleError, RecordingError
from recorder.ledger import events
from recorder.ledger.chain import chained_line
from recorder.ledger.lines import read_objects, torn_tail
from recorder.ledger.torn import torn_fields

# The spool, the number of the record in it, and its POSIX time: what an event that came through a spool was made from.
SpoolOrigin = tuple[str, int, float]

_KEYS = frozenset({"seq", "time", "attempt", "type", "fields", "prev", "hash"})


def genesis(bundle: Path) -> str:
    """What every chain of a bundle begins with: the digest of its run.json."""
    return digest((bundle / layout.RUN).read_bytes())


class Ledger:
    """The one writer of a bundle's ledger; safe to use from several threads.

    A line is handed to the operating system before `append` returns. `close_segment` makes the segment read-only and
    durable; the next event opens a new one whose first line, `segment.opened`, carries the digest of the one before.
    """

    def __init__(self, bundle: Path, attempt: int, clock: Callable[[], float]) -> None:
        self.attempt = attempt
        self._bundle = bundle
        self._clock = clock
        self._lock = threading.RLock()
        self._handle: int | None = None
        self._ended = False
        self._hasher = DigestingHasher()
        self._seq = 0
        self._last = genesis(bundle)
        self._number = 0
        self._previous: dict[str, Any] | None = None
        self._continue_existing()

    def append(self, type: str, fields: dict[str, Any], origin: SpoolOrigin | None = None) -> int:
        """Append one event and return its sequence number. Raises RecordingError when it cannot be written.

        With `origin` it happened elsewhere and earlier: its time is the one written there.
        """
        with self._lock:
            if self._ended:
                raise RecordingError(f"cannot record {type}: the run is closed")
            if self._handle is None:
                self._open_segment()
            if self._previous is not None and self._hasher.size == 0:
                self._write(events.SEGMENT_OPENED, {"previous": self._previous}, None)
            return self._write(type, fields, origin)

    def close_segment(self) -> tuple[str, FileDigest] | None:
        """Close the open segment and return its path and digest; None when no event came since the last close."""
        with self._lock:
            if self._handle is None:
                return None
            path = layout.ledger_segment(self._number)
            with recording_errors(self._bundle / path):
                os.fsync(self._handle)
                os.close(self._handle)
                self._handle = None
                make_read_only(self._bundle / path)
                sync_folder((self._bundle / path).parent)
            digests = self._hasher.digest()
            self._previous = {"path": path, **digests.record()}
            return path, digests

    def end(self) -> tuple[str, FileDigest] | None:
        """As `close_segment`, and for good: what is appended afterwards raises RecordingError."""
        with self._lock:
            self._ended = True
            return self.close_segment()

    def _open_segment(self) -> None:
        path = self._bundle / layout.ledger_segment(self._number + 1)
        with recording_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._number += 1
        self._hasher = DigestingHasher()

    def _write(self, type: str, fields: dict[str, Any], origin: SpoolOrigin | None) -> int:
        record: dict[str, Any] = {
            "seq": self._seq + 1,
            "time": utc_text(origin[2] if origin else self._clock()),
            "attempt": self.attempt,
            "type": type,
            "fields": fields,
        }
        if origin is not None:
            record |= {"spool": origin[0], "spool_seq": origin[1]}
        own, line = chained_line(self._last, record)
        assert self._handle is not None
        with recording_errors(self._bundle / layout.ledger_segment(self._number)):
            append_whole(self._handle, line)
        self._hasher.update(line)
        self._seq, self._last = self._seq + 1, own
        return self._seq

    def _continue_existing(self) -> None:
        """Go on after the last event on disk; a torn last line is cut off and kept in an event of its own."""
        torn: list[dict[str, Any]] = []
        for path in reversed(layout.segments(self._bundle, layout.LEDGER)):
            name = layout.ledger_segment(int(path.stem))
            if tail := torn_tail(path):
                torn.append({"path": name, **torn_fields(tail)})
                make_writable(path)
                os.truncate(path, path.stat().st_size - len(tail))
            if path.stat().st_size:
                self._continue_segment(path, name)
                break
            # Its writer was killed between opening it and the end of its first line.
            path.unlink()
        for fields in torn:
            self.append(events.SEGMENT_TORN, fields)

    def _continue_segment(self, path: Path, name: str) -> None:
        for line, record in _read_segment(path):
            self._hasher.update(line)
            self._seq, self._last = record["seq"], record["hash"]
        make_read_only(path)
        self._number = int(path.stem)
        self._previous = {"path": name, **self._hasher.digest().record()}


def read_events(bundle: Path) -> Iterator[dict[str, Any]]:
    """Every whole event of the ledger in order. Raises BundleError for a line that is no event."""
    for _, record in read_placed_events(bundle):
        yield record


def read_placed_events(bundle: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same, each with the path of the segment that holds it."""
    for path in layout.segments(bundle, layout.LEDGER):
        for _, record in _read_segment(path):
            yield f"{layout.LEDGER}/{path.name}", record


def _read_segment(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    try:
        for number, (line, record) in enumerate(read_objects(path), 1):
            if not record.keys() >= _KEYS or not isinstance(record["fields"], dict):
                raise BundleError(f"{layout.LEDGER}/{path.name} line {number} is not an event")
            yield line, record
    except ValueError as error:
        raise BundleError(f"{layout.LEDGER}/{error}") from None
