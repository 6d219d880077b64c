"""One writer a run: an advisory lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import recording_errors
from recorder.errors import UsageError

# `is_locked` holds a lock for the moment of its look, which must not be taken for a writer.
_TRIES, _PAUSE_SECONDS = 5, 0.02


class RunLock:
    """The right to write the run `run_id` below `root`, held until `release` or the end of the process."""

    def __init__(self, root: Path, run_id: str) -> None:
        path = root / layout.LOCKS / f"{run_id}.lock"
        with recording_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._take(run_id)
            except BaseException:
                self._close()
                raise
        # A forked child shares the lock and would hold on to it after this process.
        os.register_at_fork(after_in_child=self._close)

    def release(self) -> None:
        """Let others write the run. A second call does nothing."""
        if self._handle >= 0:
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        self._close()

    def _take(self, run_id: str) -> None:
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE_SECONDS)
        else:
            holder = os.read(self._handle, 32).decode().strip() or "unknown"
            raise UsageError(
                f"run {run_id} is still being written by process {holder}; wait for it or stop it (kill -TERM {holder})"
            )
        os.truncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def lock_holder(root: Path, run_id: str) -> str:
    """The id of the process that writes the run, or did last; `unknown` where it does not say."""
    try:
        return (root / layout.LOCKS / f"{run_id}.lock").read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def is_locked(root: Path, run_id: str) -> bool:
    """Whether a living process on a host that shares the lock file is writing the run."""
    try:
        handle = os.open(root / layout.LOCKS / f"{run_id}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)
