"""Reading tracked files back from disk, beside training: a digest taken while writing is a promise until then.

DVC never checks what is in its cache, and the digests that it was told are of the bytes that were handed to the
operating system. One thread, at the lowest priority and a limited rate, reads every tracked file, and its object in the
cache where that is another file, from the disk and not from memory, and compares BLAKE3 and MD5. What was checked is
noted beside the bundles (`recorder.bundle.read_back`), where `recorder verify` finds it. A run that ends waits a moment
for it, so its last checkpoint, when it is large, is not among what was checked.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from recorder.bundle.files import DigestingHasher, FileDigest
from recorder.bundle.read_back import ReadBackNotes

_BLOCK = 4 << 20
# A tenth of what a disk gives and an eighth of a core; a checkpoint of 2 GB takes half a minute.
_BYTES_PER_SECOND = 64e6

# Called with the bundle path, where it was (`bundle` or `cache`) and what is wrong.
Damaged = Callable[[str, str, str], None]


class ReadBack:
    """Reads back the files of the bundle in the folder `bundle`; `object_path` tells where an MD5's object is.

    `add` returns at once and may be called from any thread. `damaged` is called in the reading thread. A file that is
    removed meanwhile is passed over; one that cannot be read is damaged.
    """

    def __init__(
        self,
        bundle: Path,
        object_path: Callable[[str], Path],
        damaged: Damaged,
        rate: float = _BYTES_PER_SECOND,
    ) -> None:
        self._bundle = bundle
        self._object_path = object_path
        self._damaged = damaged
        self._rate = rate
        self._notes = ReadBackNotes(bundle)
        self._queue: queue.SimpleQueue[tuple[str, FileDigest] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._work, name="recorder-read-back", daemon=True)
        self._thread.start()

    def add(self, files: Mapping[str, FileDigest]) -> None:
        """Check these files, by bundle path, some time."""
        for item in files.items():
            self._queue.put(item)

    def finish(self, seconds: float) -> None:
        """Read on at full speed for at most `seconds`, and end; what is left is not noted as checked."""
        self._hurry.set()
        self._queue.put(None)
        self._thread.join(seconds)
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        _step_back()
        while not self._stop.is_set() and (item := self._queue.get()) is not None:
            # What cannot be noted counts as not checked.
            with suppress(_Stopped, OSError):
                self._check(*item)

    def _check(self, path: str, expected: FileDigest) -> None:
        file = self._bundle / path
        status = self._compare(path, "bundle", file, expected)
        if status is None:
            return
        object_file = self._object_path(expected.md5)
        try:
            same = os.path.samestat(status, object_file.stat())
        except FileNotFoundError:
            # Freed, or collected by the user's own `dvc gc`.
            return
        if same or self._compare(path, "cache", object_file, expected) is not None:
            self._notes.add(path, expected, status)

    def _compare(self, path: str, place: str, file: Path, expected: FileDigest) -> os.stat_result | None:
        """The status of the file if it is as expected; None if it is not, which is reported, or gone."""
        try:
            found, status = self._digest(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._damaged(path, place, f"it cannot be read back: {error.strerror}")
            return None
        if found != expected:
            self._damaged(path, place, f"read back from disk it has MD5 {found.md5} instead of {expected.md5}")
            return None
        return status

    def _digest(self, file: Path) -> tuple[FileDigest, os.stat_result]:
        hasher = DigestingHasher()
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            # Written out, then dropped from memory: what comes now comes from the disk, and leaves no trace in memory.
            os.fdatasync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            while block := os.read(handle, _BLOCK):
                if self._stop.is_set():
                    raise _Stopped
                began = time.monotonic()
                hasher.update(block)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                if not self._hurry.is_set():
                    # Waits for the rate, or for the end of the run.
                    self._hurry.wait(max(0.0, len(block) / self._rate - (time.monotonic() - began)))
        finally:
            os.close(handle)
        return hasher.digest(), status


class _Stopped(Exception):
    """There is no time left."""


def _step_back() -> None:
    """Let everything else go first: the lowest priority for processor and disk, of this thread alone."""
    thread = threading.get_native_id()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, 19)
    with suppress(psutil.Error, OSError, AttributeError):
        process: Any = psutil.Process(thread)
        process.ionice(psutil.IOPRIO_CLASS_IDLE)
