from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recorder.ledger.processes import start_ticks
from recorder.nodes import exit_status
from recorder.nodes.exit_status import ExitStatus, ExitWatch

# Starts a process, says its number, and reaps it when it is told to.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
print(child.pid, flush=True)
for order in sys.stdin:
    if order == "end\\n":
        child.stdin.close()
    else:
        print(child.wait(), flush=True)
"""
WAITS = "import sys; sys.stdin.read(); "


@dataclass
class Grandchild:
    """A process that is no child of this one."""

    parent: subprocess.Popen[str]
    pid: int

    def end(self, *, kill: int | None = None) -> None:
        """End it, and wait until it is a zombie."""
        handle = os.pidfd_open(self.pid)
        if kill is None:
            self._order("end")
        else:
            os.kill(self.pid, kill)
        assert exit_status.select.select([handle], [], [], 60)[0]
        os.close(handle)

    def reap(self) -> None:
        self._order("reap")
        assert self.parent.stdout is not None
        assert self.parent.stdout.readline()

    def _order(self, order: str) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.write(f"{order}\n")
        self.parent.stdin.flush()


def grandchild(code: str) -> Grandchild:
    arguments = [sys.executable, "-c", PARENT, code]
    parent = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return Grandchild(parent, int(parent.stdout.readline()))


@pytest.fixture
def watch() -> Iterator[ExitWatch]:
    if not hasattr(os, "pidfd_open"):
        pytest.skip("only Linux has pidfds")
    watch = ExitWatch()
    yield watch
    watch.close()


@pytest.fixture
def waiting() -> Iterator[Grandchild]:
    yield from _kept(WAITS)


def _kept(code: str) -> Iterator[Grandchild]:
    process = grandchild(code)
    yield process
    process.parent.communicate()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def needs_exit_info() -> None:
    if tuple(int(part) for part in platform.release().split(".")[:2]) < (6, 15):
        pytest.skip("this kernel does not keep the exit status of a process")


CASES = [
    (WAITS + "sys.exit(3)", None, ExitStatus(None, 3)),
    (WAITS + "raise ValueError", None, ExitStatus(None, 1)),
    (WAITS, signal.SIGKILL, ExitStatus("SIGKILL", None)),
    (WAITS, signal.SIGTERM, ExitStatus("SIGTERM", None)),
    (WAITS + "import os; os.abort()", None, ExitStatus("SIGABRT", None)),
    (WAITS, signal.SIGRTMIN + 2, ExitStatus(f"SIG{signal.SIGRTMIN + 2}", None)),
]


@pytest.mark.parametrize(("code", "kill", "expected"), CASES)
@pytest.mark.parametrize("reaped", [False, True])
def test_how_a_process_ended_that_is_no_child(
    watch: ExitWatch, code: str, kill: int | None, expected: ExitStatus, reaped: bool
) -> None:
    if reaped:
        needs_exit_info()
    for process in _kept(code):
        assert watch.watch(process.pid, start_ticks(process.pid))
        assert watch.status(process.pid) is None
        process.end(kill=kill)
        if reaped:
            process.reap()
            assert start_ticks(process.pid) == 0
        assert watch.status(process.pid) == expected
        assert watch.status(process.pid) == expected


def test_an_ordinary_end_is_known_once_it_has_been_reaped(watch: ExitWatch, waiting: Grandchild) -> None:
    needs_exit_info()
    watch.watch(waiting.pid, start_ticks(waiting.pid))
    waiting.end()
    # /proc shows a zombie that returned 0 as one of which nothing may be known.
    assert watch.status(waiting.pid) is None
    waiting.reap()
    assert watch.status(waiting.pid) == ExitStatus(None, 0)


def test_a_process_whose_first_thread_has_ended_still_runs(watch: ExitWatch) -> None:
    code = (
        "import ctypes, os, sys, threading\n"
        "def work():\n"
        "    while 'Z' not in open(f'/proc/{os.getpid()}/stat').read().rpartition(')')[2]: pass\n"
        "    print('alone', flush=True, file=sys.stderr); sys.stdin.read(); os._exit(4)\n"
        "threading.Thread(target=work).start()\n"
        "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 5)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watch.watch(process.pid, start_ticks(process.pid))
    assert process.stderr is not None
    assert process.stderr.readline() == b"alone\n"
    assert watch.status(process.pid) is None
    process.communicate()
    needs_exit_info()
    assert watch.status(process.pid) == ExitStatus(None, 4)


def test_another_process_of_that_number_is_not_watched(watch: ExitWatch, waiting: Grandchild) -> None:
    started = start_ticks(waiting.pid)
    before = open_files()
    assert not watch.watch(waiting.pid, started + 1)
    assert not watch.watch(waiting.pid, 0)
    assert not watch.watch(-1, started)
    assert open_files() == before
    assert watch.watch(waiting.pid, started)
    # One that had the number before is forgotten, whoever has it now.
    assert not watch.watch(waiting.pid, started + 1)
    waiting.end(kill=signal.SIGKILL)
    assert watch.status(waiting.pid) is None
    waiting.reap()
    assert not watch.watch(waiting.pid, started)
    assert open_files() == before


def test_a_zombie_of_that_number_but_another_start_is_not_taken_for_it(waiting: Grandchild) -> None:
    started = start_ticks(waiting.pid)
    waiting.end(kill=signal.SIGKILL)
    assert exit_status._zombie_status(waiting.pid, started) == signal.SIGKILL
    assert exit_status._zombie_status(waiting.pid, started + 1) is None


def test_where_no_start_can_be_seen_nothing_is_watched(
    watch: ExitWatch, waiting: Grandchild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_status, "start_ticks", lambda pid: 0)
    assert not watch.watch(waiting.pid, 0)


def test_close_lets_go(watch: ExitWatch, waiting: Grandchild) -> None:
    before = open_files()
    for _ in range(2):
        watch.watch(waiting.pid, start_ticks(waiting.pid))
        assert open_files() == before + 1
    watch.close()
    assert open_files() == before
    assert watch.status(waiting.pid) is None
    watch.close()


def refuse(*arguments: object) -> None:
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("open_process", [None, refuse])
def test_without_pidfds_nothing_is_watched(
    watch: ExitWatch, waiting: Grandchild, open_process: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if open_process is None:
            patch.delattr(os, "pidfd_open")
        else:
            patch.setattr(os, "pidfd_open", open_process)
        assert not watch.watch(waiting.pid, start_ticks(waiting.pid))
    assert watch.status(waiting.pid) is None


# Linux 6.13 and 6.14 know the request and nothing of exit statuses; before that it is refused.
@pytest.mark.parametrize("answers", [refuse, lambda handle, request, answer: answer.__setitem__(slice(8), bytes(8))])
def test_where_the_kernel_cannot_tell_it_is_not_known(
    watch: ExitWatch, waiting: Grandchild, answers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watch.watch(waiting.pid, start_ticks(waiting.pid))
    waiting.end(kill=signal.SIGKILL)
    waiting.reap()
    monkeypatch.setattr("fcntl.ioctl", answers)
    assert watch.status(waiting.pid) is None


def test_a_status_is_evidence() -> None:
    assert ExitStatus("SIGKILL", None).evidence() == {"exit_signal": "SIGKILL"}
    assert ExitStatus(None, 0).evidence() == {"exit_code": 0}
