"""Log files of a bundle: one a process and attempt, a line each: `<UTC time> <stream> <text>`.

`stream` is `stdout`, `stderr` or `logging`; a carriage return inside a line is written as `\\r`, bytes that are no
UTF-8 as `\\xNN`. The last line of a process killed in the middle of it ends with ` [unfinished]`. Where another process
took over, a line of the stream `recorder` says so: `incarnation <n>`. Before the first of them it is 0.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from recorder.bundle.files import (
    DigestingHasher,
    FileDigest,
    append_whole,
    make_read_only,
    make_writable,
    recording_errors,
)
from recorder.canonical import utc_text
from recorder.ledger.lines import split_lines

UNFINISHED = " [unfinished]"

_OWN_STREAM = "recorder"


class LogSource(NamedTuple):
    """What lines come from: one stream of one process. `origin` is `driver` or `rank-<r>`."""

    origin: str
    incarnation: int
    stream: str


class LogWriter:
    """Appends lines to one log file; the digest of what is written so far is at hand at any time."""

    def __init__(self, bundle: Path, path: str) -> None:
        self.path = path
        self._file = bundle / path
        self._handle: int | None = None
        self._hasher = DigestingHasher()
        self._lines: Counter[tuple[int, str]] = Counter()
        self._incarnation = 0
        self._announced = 0
        if self._file.exists():
            with recording_errors(self._file):
                self._continue_existing()

    def append(self, time: float, source: LogSource, text: str) -> None:
        """Append one line seen at POSIX `time`."""
        if source.incarnation != self._incarnation:
            self._write(f"{utc_text(time)} {_OWN_STREAM} incarnation {source.incarnation}\n")
            self._incarnation = source.incarnation
        one_line = text.replace("\r", "\\r").replace("\n", "\\n")
        self._write(f"{utc_text(time)} {source.stream} {one_line}\n")
        self._lines[source.incarnation, source.stream] += 1

    def lines(self, source: LogSource) -> int:
        """How many lines of `source` are in the file."""
        return self._lines[source.incarnation, source.stream]

    def extended(self) -> FileDigest | None:
        """The digest of all lines so far, or None when nothing came since it was asked for last."""
        digests = self._hasher.digest()
        if digests.size == self._announced:
            return None
        self._announced = digests.size
        return digests

    def close(self) -> FileDigest | None:
        """Make the file durable and read-only and return its digest; None when no line ever came."""
        if self._handle is not None:
            with recording_errors(self._file):
                os.fsync(self._handle)
                os.close(self._handle)
            self._handle = None
        if not self._file.exists():
            return None
        make_read_only(self._file)
        return self._hasher.digest()

    def _write(self, line: str) -> None:
        data = line.encode(errors="backslashreplace")
        with recording_errors(self._file):
            if self._handle is None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._make_writable()
                self._handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            append_whole(self._handle, data)
        self._hasher.update(data)

    def _continue_existing(self) -> None:
        """Count what is there, so that lines collected before are not collected again."""
        whole, torn = split_lines(self._file.read_bytes())
        if torn:
            self._make_writable()
            os.truncate(self._file, self._file.stat().st_size - len(torn))
        for line in whole:
            self._hasher.update(line)
            _, _, rest = line[:-1].decode(errors="backslashreplace").partition(" ")
            stream, _, text = rest.partition(" ")
            if stream == _OWN_STREAM and (number := text.rpartition(" ")[2]).isdecimal():
                self._incarnation = int(number)
            else:
                self._lines[self._incarnation, stream] += 1

    def _make_writable(self) -> None:
        """Its writer may have been killed after it had closed the file, and somebody may have it in a cache since."""
        if self._file.exists():
            make_writable(self._file)


class RawTail:
    """Follows a file into which a process writes raw bytes, and splits it into lines."""

    def __init__(self, path: Path, skip: int = 0) -> None:
        self.path = path
        self._offset = 0
        self._skip = skip

    def read(self, limit: int = 1 << 20) -> list[str]:
        """The next whole lines from at most `limit` bytes; a longer line is cut at `limit`."""
        while lines := self._next_lines(limit):
            fresh = lines[self._skip :]
            self._skip = max(0, self._skip - len(lines))
            if fresh:
                return [_text(line) for line in fresh]
        return []

    def finish(self) -> list[str]:
        """Everything left once the writer is gone, the unfinished last line marked as such."""
        collected: list[str] = []
        while lines := self.read():
            collected += lines
        if rest := self._bytes(-1):
            self._offset += len(rest)
            if not self._skip:
                collected.append(_text(rest) + UNFINISHED)
        return collected

    def _next_lines(self, limit: int) -> list[bytes]:
        lines, rest = split_lines(self._bytes(limit))
        if not lines and len(rest) == limit:
            lines = [rest]
        self._offset += sum(map(len, lines))
        return lines

    def _bytes(self, limit: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""


def _text(line: bytes) -> str:
    return line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="backslashreplace")
