"""The spool: an append-only file on the writer's own node in which records wait until they are collected.

One record is one line and one `write` call on an unbuffered descriptor. When `write` returns the record is in the
operating system's hands: killing the writer at any moment afterwards loses nothing, killing it inside the call leaves
at most one torn last line, which readers recognise by its missing newline.

Records are JSON objects: `t` is POSIX time, `k` the kind, the rest is the content (see `recorder.ledger.records`). A
record's number is that of its line, from 1.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle.files import append_whole, recording_errors
from recorder.canonical import encode_non_finite, json_encoder
from recorder.ledger.lines import parse_object, split_lines

SUFFIX = ".spool"

_READ_BYTES = 4 << 20
_encode = json_encoder(sort_keys=False)


class SpoolWriter:
    """Appends records to one spool; safe to use from several threads of one process, from signal handlers and forks.

    Raises RecordingError when a record cannot be written: a record that cannot be kept is never dropped silently.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._renew_lock()
        with recording_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        _renew_lock_after_fork(weakref.ref(self))

    def write(self, kind: str, content: dict[str, Any], members: str = "") -> None:
        """Append one record. NaN and infinities are kept as their stated strings.

        `members` is JSON text that follows the content as it is, each member with a comma before it. Raises TypeError
        for what JSON cannot hold.
        """
        record = {"t": self._clock(), "k": kind, **content}
        try:
            text = _encode(record)
        except ValueError:
            text = _encode(encode_non_finite(record))
        data = f"{text[:-1]}{members}}}\n".encode(errors="backslashreplace")
        try:
            with self._lock:
                append_whole(self._handle, data)
        except OSError:
            with recording_errors(self.path):
                raise

    def close(self) -> None:
        """Close the file; the spool stays on disk until it has been collected. A second call does nothing."""
        with self._lock:
            handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _renew_lock(self) -> None:
        # Reentrant: a signal handler may write while the thread it interrupts does.
        self._lock = threading.RLock()


def _renew_lock_after_fork(reference: weakref.ref[SpoolWriter]) -> None:
    """A thread that held the lock when the process forked is not there to give it back in the child."""

    def renew() -> None:
        if (writer := reference()) is not None:
            writer._renew_lock()

    os.register_at_fork(after_in_child=renew)


@dataclass(frozen=True)
class SpoolLine:
    """One whole line of a spool: its number from 1, where it begins, its bytes, and its record if it holds one."""

    number: int
    offset: int
    data: bytes
    record: dict[str, Any] | None


class SpoolReader:
    """Reads a spool from its beginning, and on from where it stopped; holds back a torn last line until it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self._number = 0

    def read(self, limit: int = _READ_BYTES) -> list[SpoolLine]:
        """The next whole lines, from `limit` bytes, or from as many as one longer line needs."""
        data = self._bytes(limit)
        while len(data) == limit and b"\n" not in data:
            limit *= 2
            data = self._bytes(limit)
        return [self._line(line) for line in split_lines(data)[0]]

    def take_torn(self) -> bytes:
        """What is left after the last whole line; call it when the writer is gone. A second call gives nothing."""
        torn = self._bytes(-1)
        self.offset += len(torn)
        return torn

    def _bytes(self, limit: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""

    def _line(self, data: bytes) -> SpoolLine:
        try:
            record = parse_object(data)
        except ValueError:
            record = None
        self._number += 1
        line = SpoolLine(self._number, self.offset, data, record)
        self.offset += len(data)
        return line
