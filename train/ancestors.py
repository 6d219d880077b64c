"""An orphan of DVC stops: a `dvc repro` that is killed leaves the processes of its stage running, and forgets them.

Each process from here up to the one that runs the stage is watched by a file descriptor of the kernel's, which becomes
readable when the process ends: nothing is polled, and a process id that is used again is not mistaken.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from recorder.tracking.workspace import STAGE_VARIABLE

Say = Callable[[str], None]

_INIT = 1


def stop_with_dvc(say: Say) -> None:
    """Send this process SIGTERM when the DVC that runs it as a stage ends first. Does nothing outside of a stage."""
    if STAGE_VARIABLE not in os.environ or not hasattr(os, "pidfd_open"):
        return
    watched = _open(_up_to_dvc())
    threading.Thread(target=_wait, args=(watched, say), name="dvc-watch", daemon=True).start()


def _up_to_dvc() -> list[int]:
    """The processes from the parent up to DVC, the first that is not itself in a stage; empty when DVC is gone."""
    found, process = [], os.getppid()
    while process > 0:
        found.append(process)
        if not _is_in_stage(process):
            return found if process != _INIT or _is_dvc(process) else []
        process = _parent(process)
    return []


def _is_in_stage(process: int) -> bool:
    """Whether DVC started the process, or one that it descends from: its first environment says so."""
    with suppress(OSError):
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        return any(variable.startswith(f"{STAGE_VARIABLE}=".encode()) for variable in variables)
    return False


def _is_dvc(process: int) -> bool:
    """A container may have DVC as its first process; elsewhere that one takes in orphans."""
    with suppress(OSError):
        return b"dvc" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def _parent(process: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _open(processes: list[int]) -> list[int]:
    """A descriptor for each process; none at all when one is gone already."""
    handles: list[int] = []
    for process in processes:
        try:
            handles.append(os.pidfd_open(process))
        except OSError:
            for handle in handles:
                os.close(handle)
            return []
    return handles


def _wait(handles: list[int], say: Say) -> None:
    if handles:
        ended = select.poll()
        for handle in handles:
            ended.register(handle, select.POLLIN)
        ended.poll()
    with suppress(OSError, ValueError):
        say("the DVC that ran this stage is gone: stopping, as on SIGTERM; the next `dvc repro` goes on")
    os.kill(os.getpid(), signal.SIGTERM)
