"""The spool: an append-only file on the writer's own node in which records wait until they are collected.

One record is one line and one `write` call on an unbuffered descriptor. When `write` returns the record is in the
operating system's hands: killing the writer at any moment afterwards loses nothing, killing it inside the call leaves
at most one torn last line, which readers recognise by its missing newline.

Records are JSON objects: `n` counts from 1 within the spool, `t` is POSIX time, `k` is the kind:
`hello` (pid, process start time, host; always first), `step`, `event`, `log`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle.files import recording_errors, write_all
from recorder.canonical import encode_non_finite
from recorder.ledger.lines import parse_object, split_lines

SUFFIX = ".spool"

# One encoder made once: json.dumps with other than default options builds a new one for each call.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class SpoolWriter:
    """Appends records to one spool; safe to use from several threads of one process.

    Raises RecordingError when a record cannot be written: a record that cannot be kept is never dropped silently.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        with recording_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, kind: str, content: dict[str, Any]) -> None:
        """Append one record. NaN and infinities are kept as their stated strings."""
        with self._lock:
            self._count += 1
            record = {"n": self._count, "t": self._clock(), "k": kind, **content}
            try:
                text = _encode(record)
            except ValueError:
                text = _encode(encode_non_finite(record))
            try:
                write_all(self._handle, text.encode() + b"\n")
            except OSError:
                with recording_errors(self.path):
                    raise

    def close(self) -> None:
        """Close the file; the spool stays on disk until it has been collected."""
        os.close(self._handle)


@dataclass(frozen=True)
class SpoolBatch:
    """Records read from one spool, and what could not be read as one."""

    records: list[dict[str, Any]]
    damaged: list[bytes]


class SpoolReader:
    """Reads a spool from where it stopped; holds back a torn last line until it is whole or `finish` is called."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def read(self, limit: int = 4 << 20) -> SpoolBatch:
        """The next whole records, from at most `limit` bytes; a whole line that is no record is kept as damaged."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(limit)
        except FileNotFoundError:
            return SpoolBatch([], [])
        records, damaged = [], []
        lines, _ = split_lines(data)
        for line in lines:
            self.offset += len(line)
            try:
                records.append(parse_object(line))
            except ValueError:
                damaged.append(line)
        return SpoolBatch(records, damaged)

    def torn(self) -> bytes:
        """What is left after the last whole record; call it when the writer is gone."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read()
        except FileNotFoundError:
            return b""
