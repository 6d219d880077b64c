from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from recorder.ledger import processes
from recorder.ledger.processes import is_alive, kill, start_ticks


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def test_a_process_is_its_number_and_its_start(sleeper: subprocess.Popen[bytes]) -> None:
    started = start_ticks(sleeper.pid)
    assert started > 0
    assert is_alive(sleeper.pid, started)
    assert not is_alive(sleeper.pid, started + 1)
    assert not kill(sleeper.pid, started + 1)
    assert sleeper.poll() is None
    assert kill(sleeper.pid, started)
    assert not is_alive(sleeper.pid, started)  # although its parent has not waited for it yet
    assert sleeper.wait() == -signal.SIGKILL
    assert not kill(sleeper.pid, started)


def test_a_process_that_never_was(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    assert start_ticks(sleeper.pid) == 0
    assert not is_alive(sleeper.pid, 0)


def test_one_that_ends_before_the_signal_was_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    assert not kill(os.getpid(), start_ticks(os.getpid()))


def test_one_that_does_not_end_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    monkeypatch.setattr(processes.time, "monotonic", iter([0.0, 5.0, 11.0]).__next__)
    with pytest.raises(TimeoutError):
        kill(os.getpid(), start_ticks(os.getpid()))
