"""How a process ended that is no child of ours: by its pidfd, where Linux tells (6.15 or later).

The parent of a worker is Ray's, so nobody else can wait for it. A pidfd that was opened while the process lived keeps
its exit status: once it has been reaped, `ioctl(PIDFD_GET_INFO)` with `PIDFD_INFO_EXIT` returns it (linux/pidfd.h,
ioctl_pidfd(2)); until then it is a zombie and /proc/<pid>/stat has it (field 52, proc(5)).
"""

from __future__ import annotations

import os
import select
import signal
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.ledger.processes import start_ticks

# The first 64 bytes of struct pidfd_info: what is asked for and told, 52 bytes that do not matter here, a wait status.
_INFO = struct.Struct("=Q52xi")
_GET_INFO = 0xC000FF0B | _INFO.size << 16  # _IOWR(0xFF, 11, struct pidfd_info), on all machines but MIPS, POWER, SPARC
_EXIT = 1 << 3


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended: the name of the `signal` that killed it, or the `code` it returned; the other is None."""

    signal: str | None
    code: int | None

    def evidence(self) -> dict[str, Any]:
        """As it stands among the evidence of a loss: `exit_signal` or `exit_code`."""
        return {"exit_code": self.code} if self.signal is None else {"exit_signal": self.signal}


class ExitWatch:
    """Watches processes of this machine, each by a pidfd; one thread at a time may use it.

    Nothing here raises: where the system cannot tell, a status is None.
    """

    def __init__(self) -> None:
        self._watched: dict[int, tuple[int, int]] = {}

    def watch(self, pid: int, started: int) -> bool:
        """Watch the process `pid` that started at `started` (see `start_ticks`); whether it is watched.

        It is not when it has been reaped, when the number belongs to another process by now, or where there is no
        pidfd. It takes the place of one watched before under this number.
        """
        self._forget(pid)
        if not hasattr(os, "pidfd_open"):
            return False
        try:
            handle = os.pidfd_open(pid)
        except (OSError, ValueError, OverflowError):
            return False
        # Looked up after the pidfd was opened: had it been of an earlier process, this would be another start.
        if started == 0 or start_ticks(pid) != started:
            os.close(handle)
            return False
        self._watched[pid] = (handle, started)
        return True

    def status(self, pid: int) -> ExitStatus | None:
        """How the watched process `pid` ended; None while it runs, when the kernel cannot tell, or if unwatched."""
        if pid not in self._watched:
            return None
        handle, started = self._watched[pid]
        if not _has_ended(handle):
            return None
        status = _zombie_status(pid, started)
        # It may be reaped between the two looks, never the other way round.
        return _exit_status(_reaped_status(handle) if status is None else status)

    def close(self) -> None:
        """Let go of all processes."""
        for pid in list(self._watched):
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        handle, _ = self._watched.pop(pid, (None, 0))
        if handle is not None:
            os.close(handle)


def _has_ended(handle: int) -> bool:
    """Whether all threads of the process have; a process whose first thread ended early looks like a zombie."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def _zombie_status(pid: int, started: int) -> int | None:
    """The wait status of a process that has ended and not been reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # The kernel shows 0 to those who may not trace the process; that would be read as an ordinary end.
    status = int(fields[49]) if int(fields[19]) == started and fields[0] == "Z" else 0
    return status or None


def _reaped_status(handle: int) -> int | None:
    """The wait status of a process that has been reaped; None from kernels before 6.15."""
    import fcntl

    answer = bytearray(_INFO.pack(_EXIT, 0))
    with suppress(OSError):
        fcntl.ioctl(handle, _GET_INFO, answer)
        told, status = _INFO.unpack(answer)
        if told & _EXIT:
            return int(status)
    return None


def _exit_status(status: int | None) -> ExitStatus | None:
    if status is None:
        return None
    if not os.WIFSIGNALED(status):
        return ExitStatus(None, os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    try:
        return ExitStatus(signal.Signals(number).name, None)
    except ValueError:  # a real-time signal other than the first and the last
        return ExitStatus(f"SIG{number}", None)
