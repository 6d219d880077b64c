"""Processes named so that a reused process id is never mistaken for the process it once was."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def start_ticks(pid: int) -> int:
    """When process `pid` started, in clock ticks since boot; 0 where there is no /proc or no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had `pid` and start time `started` still runs (a zombie does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    fields = text.rpartition(")")[2].split()
    return fields[0] != "Z" and int(fields[19]) == started


def kill(pid: int, started: int, seconds: float = 10.0) -> bool:
    """SIGKILL the process if it is still the one meant, and wait until it is gone; whether it was.

    Raises PermissionError when it belongs to somebody else, TimeoutError when it does not end within `seconds`.
    """
    if not is_alive(pid, started):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    deadline = time.monotonic() + seconds
    while is_alive(pid, started):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)
    return True
