from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.dvc_repositories import dvc

from recorder.errors import TrackingError
from recorder.tracking.dvc_repository import DvcRepository

HOLD = """
import sys
from pathlib import Path
from recorder.tracking.dvc_repository import DvcRepository
with DvcRepository(Path(sys.argv[1])).locked(10, print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(repository: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds DVC's lock until it gets a line or is killed."""
    command = [sys.executable, "-c", HOLD, str(repository)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(params=[False, True], ids=["flock", "hardlink_lock"])
def locking(request: pytest.FixtureRequest, repository: Path) -> Path:
    """A repository with either kind of lock."""
    if request.param:
        dvc(repository, "config", "core.hardlink_lock", "true")
    return repository


def test_it_waits_for_another_process_and_says_so_once(locking: Path) -> None:
    with held(locking) as process:

        def let_go(text: str) -> None:
            said.append(text)
            process.communicate("\n")

        said: list[str] = []
        with DvcRepository(locking).locked(60, let_go):
            assert process.returncode == 0
        assert len(said) == 1
        assert said[0].startswith("waiting for DVC's lock, which ")


def test_it_gives_up_with_one_line(locking: Path) -> None:
    refused = pytest.raises(TrackingError, match=r"^[^\n]* held DVC's lock for more than 0 s[^\n]*$")
    with held(locking), refused, DvcRepository(locking).locked(0, lambda _: None):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(locking: Path) -> None:
    with held(locking) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        said: list[str] = []
        with DvcRepository(locking).locked(0, said.append):
            assert said == []
    assert "up to date" in dvc(locking, "status") or "no data" in dvc(locking, "status")


def test_dvc_itself_waits_for_us(locking: Path) -> None:
    (locking / "a").write_text("a")
    with DvcRepository(locking).locked(0, print):
        assert "Unable to acquire lock" in dvc(locking, "add", "a", fails=True)
    dvc(locking, "add", "--quiet", "a")


def test_a_full_disk_does_not_keep_the_lock(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    dvc(repository, "config", "core.hardlink_lock", "true")
    monkeypatch.setattr("recorder.tracking.dvc_repository.note_holder", full)
    with pytest.raises(OSError, match="No space left"), DvcRepository(repository).locked(0, print):
        pass
    assert not (repository / ".dvc" / "tmp" / "lock").exists()


def test_a_lock_that_is_not_ours_is_not_taken_over(repository: Path) -> None:
    dvc(repository, "config", "core.hardlink_lock", "true")
    lock = repository / ".dvc" / "tmp" / "lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("somebody's\n")
    refused = pytest.raises(TrackingError, match=r"when no DVC command runs, delete .*/\.dvc/tmp/lock$")
    with refused, DvcRepository(repository).locked(0, print):
        pass
    assert lock.read_text() == "somebody's\n"
