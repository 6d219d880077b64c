from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest
from helpers.children import Child, lock_holder
from helpers.disks import fill, small_disk

from recorder.bundle import layout
from recorder.errors import RecordingError, UsageError
from recorder.lock import RunLock, is_locked


def test_one_writer_at_a_time_and_the_refusal_names_it(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, "demo")
    assert is_locked(tmp_path, "demo")
    with pytest.raises(UsageError, match=f"run demo is still being written by process {os.getpid()}; wait for it or"):
        RunLock(tmp_path, "demo")
    RunLock(tmp_path, "other").release()
    lock.release()
    lock.release()
    assert not is_locked(tmp_path, "demo")
    RunLock(tmp_path, "demo").release()


def test_a_lock_that_was_never_taken(tmp_path: Path) -> None:
    assert not is_locked(tmp_path, "demo")


def test_somebody_who_only_looks_is_not_taken_for_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunLock(tmp_path, "demo").release()
    looking = os.open(tmp_path / layout.LOCKS / "demo.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr("recorder.lock.time.sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))
    RunLock(tmp_path, "demo").release()
    os.close(looking)


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    child = Child(lock_holder, tmp_path, "demo")
    assert child.line() == "locked"
    with pytest.raises(UsageError, match=f"process {child.process.pid};"):
        RunLock(tmp_path, "demo")
    child.kill()
    RunLock(tmp_path, "demo").release()


def test_a_forked_child_that_outlives_the_writer_does_not_hold_the_lock(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, "demo")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    lock._close()  # as the end of the process would, without unlocking
    try:
        RunLock(tmp_path, "demo").release()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / layout.LOCKS).write_text("a file where the folder should be")
    with pytest.raises(RecordingError, match=r"cannot write .*demo\.lock"):
        RunLock(tmp_path, "demo")


def test_on_a_full_disk_nobody_holds_the_lock(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        (disk / layout.LOCKS).mkdir()
        (disk / layout.LOCKS / "demo.lock").touch()
        fill(disk)
        with pytest.raises(RecordingError, match=r"cannot write .*demo\.lock: the disk is full"):
            RunLock(disk, "demo")
        assert not is_locked(disk, "demo")
