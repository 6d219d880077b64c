"""A process's stdout, stderr and `logging`, caught where C code writes too: at the file descriptors.

Descriptors 1 and 2 are pointed at append-only files in the spool folder, so a line is safe the moment `write` returns,
whoever wrote it and however the process dies. The collector reads the files, gives each line the time at which it saw
it (within its polling interval) and puts it into the bundle's log. Records of `logging` go to the spool with their
own time. Nothing is installed at import; `StreamCapture` does it and undoes it.

Python hands over each line of `print` as it ends, whatever stdout was before. What C code holds back in a buffer of its
own is handed over when the capture ends.
"""

from __future__ import annotations

import ctypes
import io
import logging
import os
import sys
from pathlib import Path
from typing import Self

from recorder.bundle.files import recording_errors
from recorder.ledger.spool import SpoolWriter

STDOUT_SUFFIX, STDERR_SUFFIX = ".out", ".err"


class SpoolLogHandler(logging.Handler):
    """Writes each log record to a spool as kind `log`."""

    def __init__(self, spool: SpoolWriter) -> None:
        super().__init__()
        self._spool = spool

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`; an error of formatting is reported on stderr as `logging` does."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._spool.write("log", {"level": record.levelname, "logger": record.name, "text": text})


class StreamCapture:
    """While active, everything this process and its children write to stdout and stderr lands in two files.

    `terminal_out` and `terminal_err` are duplicates of the original descriptors, for what is meant for a person.
    """

    def __init__(self, folder: Path, origin: str, spool: SpoolWriter | None = None) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._paths = [folder / f"{origin}{suffix}" for suffix in (STDOUT_SUFFIX, STDERR_SUFFIX)]
        with recording_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            files = [os.open(path, flags, 0o600) for path in self._paths]
        self._handler = SpoolLogHandler(spool) if spool is not None else None
        _flush()
        self.terminal_out, self.terminal_err = os.dup(1), os.dup(2)
        os.dup2(files[0], 1)
        os.dup2(files[1], 2)
        for file in files:
            os.close(file)
        self._was_line_buffered = _buffer_lines(True)
        if self._handler is not None:
            logging.getLogger().addHandler(self._handler)

    def move_to(self, folder: Path) -> None:
        """Move the files to `folder`, on the same disk, while they are being written."""
        with recording_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._paths = [path.rename(folder / path.name) for path in self._paths]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give stdout and stderr back."""
        _flush()
        if not self._was_line_buffered:
            _buffer_lines(False)
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        os.dup2(self.terminal_out, 1)
        os.dup2(self.terminal_err, 2)
        os.close(self.terminal_out)
        os.close(self.terminal_err)


def _flush() -> None:
    """Hand over what Python's and C's own buffers hold back."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def _buffer_lines(lines: bool) -> bool:
    """Whether `sys.stdout` hands over each line as it ends; from here on it does as told."""
    stdout = sys.stdout
    if not isinstance(stdout, io.TextIOWrapper):
        return lines
    before = stdout.line_buffering
    stdout.reconfigure(line_buffering=lines)
    return before
