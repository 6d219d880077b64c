"""Log files of a bundle: one a process and attempt, a line each: `<UTC time> <stream> <text>`.

`stream` is `stdout`, `stderr` or `logging`; a carriage return inside a line is written as `\\r`, bytes that are no
UTF-8 as `\\xNN`. The last line of a process killed in the middle of it ends with ` [unfinished]`.
"""

from __future__ import annotations

import os
from pathlib import Path

from recorder.bundle.files import DigestingHasher, FileDigest, make_read_only, recording_errors, write_all
from recorder.canonical import utc_text
from recorder.ledger.lines import split_lines

UNFINISHED = " [unfinished]"


class LogWriter:
    """Appends lines to one log file; the digest of what is written so far is at hand at any time."""

    def __init__(self, bundle: Path, path: str) -> None:
        self.path = path
        self._file = bundle / path
        self._hasher = DigestingHasher()
        self.lines: dict[str, int] = {}
        self.announced = 0
        with recording_errors(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if self._file.exists():
                self._continue_existing()
            self._handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def append(self, time: float, stream: str, text: str) -> None:
        """Append one line seen at POSIX `time`."""
        one_line = text.replace("\r", "\\r").replace("\n", "\\n")
        data = f"{utc_text(time)} {stream} {one_line}\n".encode(errors="backslashreplace")
        with recording_errors(self._file):
            write_all(self._handle, data)
        self._hasher.update(data)
        self.lines[stream] = self.lines.get(stream, 0) + 1

    def extended(self) -> FileDigest | None:
        """The digest of all lines so far, or None when nothing came since it was asked for last."""
        digests = self._hasher.digest()
        if digests.size == self.announced:
            return None
        self.announced = digests.size
        return digests

    def close(self) -> FileDigest:
        """Make the file durable and read-only and return its digest."""
        with recording_errors(self._file):
            os.fsync(self._handle)
            os.close(self._handle)
        make_read_only(self._file)
        return self._hasher.digest()

    def _continue_existing(self) -> None:
        """Count what is there, so that lines collected before are not collected again."""
        whole, torn = split_lines(self._file.read_bytes())
        if torn:
            os.truncate(self._file, self._file.stat().st_size - len(torn))
        for line in whole:
            self._hasher.update(line)
            stream = line.split(b" ", 2)[1].decode()
            self.lines[stream] = self.lines.get(stream, 0) + 1


class RawTail:
    """Follows a file into which a process writes raw bytes, and splits it into lines."""

    def __init__(self, path: Path, skip: int = 0) -> None:
        self.path = path
        self._offset = 0
        self._skip = skip

    def read(self, limit: int = 1 << 20) -> list[str]:
        """The next whole lines from at most `limit` bytes; a longer line is cut at `limit`."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(limit)
        except FileNotFoundError:
            return []
        lines, rest = split_lines(data)
        if not lines and len(rest) == limit:
            lines = [rest]
        self._offset += sum(map(len, lines))
        fresh = lines[self._skip :] if self._skip else lines
        self._skip = max(0, self._skip - len(lines))
        return [_text(line) for line in fresh]

    def finish(self) -> list[str]:
        """Everything left once the writer is gone, the unfinished last line marked as such."""
        collected: list[str] = []
        while lines := self.read():
            collected += lines
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                rest = file.read()
        except FileNotFoundError:
            return collected
        if rest and not self._skip:
            collected.append(_text(rest) + UNFINISHED)
        self._offset += len(rest)
        return collected


def _text(line: bytes) -> str:
    return line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="backslashreplace")
