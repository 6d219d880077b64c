from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.disks import fill, small_disk
from helpers.kill_points import run_until_killed, unwatched
from safetensors.torch import load_file

from recorder.bundle import layout
from recorder.bundle.files import blake3_file
from recorder.checkpoint import memory as memory_module
from recorder.checkpoint.memory import MemorySnapshots, MemorySpace, check, offers
from recorder.checkpoint.record import read_commit_marker

MODEL, OPTIMIZER, STATE = layout.CHECKPOINT_MODEL, layout.CHECKPOINT_OPTIMIZER, layout.CHECKPOINT_STATE
GIGABYTE = 10**9


def tensors(step: int, elements: int = 100) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    model = {"weight": torch.randn(elements, generator=generator), "half": torch.ones(3, dtype=torch.bfloat16)}
    return {MODEL: model, OPTIMIZER: {"moment": torch.arange(6).reshape(2, 3).T + step}}


def state(step: int) -> dict[str, Any]:
    return {"tokens": 64 * step, "fingerprint": f"{step:016x}"}


class Saves:
    """Snapshots in `folder`, and what was said of them."""

    def __init__(self, folder: Path, space: Callable[[Path], MemorySpace] = memory_module.memory_space) -> None:
        self.saved: list[dict[str, Any]] = []
        self.skipped: list[tuple[int, str]] = []
        self.snapshots = MemorySnapshots(folder, self.saved.append, lambda *said: self.skipped.append(said), space)

    def save(self, *steps: int, elements: int = 100) -> None:
        for step in steps:
            self.snapshots.save(step, tensors(step, elements), state(step))
            self.snapshots.wait()


def whole(folder: Path) -> list[int]:
    """The steps that are offered; each must be what was saved, to the last bit."""
    found = offers(folder)
    for snapshot in found:
        assert check(snapshot) is None
        assert snapshot.fingerprint == f"{snapshot.step:016x}"
        for name, expected in tensors(snapshot.step, len(load_file(snapshot.path / MODEL)["weight"])).items():
            read = load_file(snapshot.path / name)
            assert read.keys() == expected.keys()
            assert all(torch.equal(read[key], expected[key]) for key in expected)
    return [snapshot.step for snapshot in found]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_snapshot_is_what_was_saved_in_the_files_of_a_checkpoint(memory: Path) -> None:
    saves = Saves(memory / "node")
    saves.save(10)
    (said,) = saves.saved
    folder = memory / "node" / "step-00000010"
    assert whole(memory / "node") == [10]
    assert names(folder) == [MODEL, OPTIMIZER, STATE]
    assert said.keys() == {"step", "bytes", "seconds", "blocked_seconds", "fingerprint"}
    assert (said["step"], said["fingerprint"]) == (10, state(10)["fingerprint"])
    assert said["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    marker = read_commit_marker(folder)
    assert marker is not None
    for name in (MODEL, OPTIMIZER):
        path = folder / name
        assert marker["files"][name] == {"size": path.stat().st_size, "blake3": blake3_file(path)}
    assert saves.skipped == []
    assert (memory / "node").stat().st_mode & 0o077 == 0


def test_the_two_newest_are_kept(memory: Path) -> None:
    saves = Saves(memory / "node")
    for number, kept in enumerate([[10], [20, 10], [30, 20], [40, 30]], start=1):
        saves.save(10 * number)
        assert whole(memory / "node") == kept
    assert names(memory / "node") == ["step-00000030", "step-00000040"]


def test_after_a_return_the_steps_done_again_take_the_place_of_the_old_ones(memory: Path) -> None:
    saves = Saves(memory / "node")
    saves.save(30, 40)
    again = Saves(memory / "node")
    for step in (30, 40):
        files = {MODEL: {"weight": torch.full((2,), float(step))}}
        again.snapshots.save(step, files, {"fingerprint": f"again {step}"})
        again.snapshots.wait()
        assert len(again.saved) == len(offers(memory / "node")) - (step == 30)
    assert [snapshot.fingerprint for snapshot in offers(memory / "node")] == ["again 40", "again 30"]
    Saves(memory / "node").save(40)
    assert [snapshot.fingerprint for snapshot in offers(memory / "node")] == [state(40)["fingerprint"], "again 30"]
    single = Saves(memory / "single")
    single.save(10, 10)
    assert [said["step"] for said in single.saved] == [10, 10]
    assert whole(memory / "single") == [10]
    assert names(memory / "single") == ["step-00000010"]


def test_the_one_written_last_counts_as_the_one_before_whatever_its_step(memory: Path) -> None:
    folder = memory / "node"
    Saves(folder).save(40, 50)
    for number, step in enumerate((40, 50)):
        os.utime(folder / f"step-{step:08d}" / STATE, (number, number))
    saves = Saves(folder)
    saves.save(30)
    assert whole(folder) == [50, 30]
    saves.save(40)
    assert whole(folder) == [40, 30]


def test_training_may_change_the_tensors_as_soon_as_save_returns(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed, write = threading.Event(), memory_module.write_with_blake3

    def write_later(*arguments: Any) -> Any:
        assert changed.wait(60)
        return write(*arguments)

    monkeypatch.setattr(memory_module, "write_with_blake3", write_later)
    saves, files = Saves(memory / "node"), tensors(10)
    saves.snapshots.save(10, files, state(10))
    files[MODEL]["weight"].zero_()
    # And while it is being written, the next one is skipped without waiting.
    saves.snapshots.save(20, files, state(20))
    assert saves.skipped == [(20, "the snapshot before is still being written")]
    changed.set()
    saves.snapshots.wait()
    assert whole(memory / "node") == [10]


def test_the_one_before_stays_whole_while_the_next_is_written(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, write = [], memory_module.write_with_blake3

    def look(path: Path, *arguments: Any) -> Any:
        seen.append(whole(memory / "node"))
        return write(path, *arguments)

    saves = Saves(memory / "node")
    saves.save(10, 20)
    monkeypatch.setattr(memory_module, "write_with_blake3", look)
    saves.save(30)
    assert seen == [[20], [20]]


def test_the_memory_for_the_copy_is_kept_until_the_end(memory: Path) -> None:
    saves = Saves(memory / "node")
    places = []
    for step in (10, 20):
        saves.save(step)
        places.append(saves.snapshots._copies[f"{MODEL}/weight"].data_ptr())
    assert places[0] == places[1]
    saves.snapshots.close(remove=False)
    assert saves.snapshots._copies == {}
    assert whole(memory / "node") == [20, 10]


def test_close_removes_what_it_is_told_to_and_waits_for_what_is_being_written(memory: Path) -> None:
    folder = memory / "user" / "run" / "node"
    Saves(folder.with_name("other")).save(10)
    saves = Saves(folder)
    saves.snapshots.save(10, tensors(10), state(10))
    saves.snapshots.close(remove=True)
    assert [said["step"] for said in saves.saved] == [10]
    assert names(folder.parent) == ["other"]
    Saves(folder.with_name("other")).snapshots.close(remove=True)
    assert names(memory) == []


ROOMY = MemorySpace("tmpfs", free=GIGABYTE, available=GIGABYTE, total=GIGABYTE)
SIZE = 4 * 25_000_000 + 6 + 48  # of tensors(step, 25_000_000)


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (replace(ROOMY, file_system="ext4"), "{folder} is not in memory: its file system is ext4, not tmpfs"),
        (replace(ROOMY, file_system=None), "{folder} is not in memory: its file system is None, not tmpfs"),
        (
            replace(ROOMY, free=2 * SIZE + 999_999),
            "the tmpfs of {folder} has room for 201 MB, two snapshots need 201 MB; enlarge it",
        ),
        (
            replace(ROOMY, available=3 * SIZE + GIGABYTE // 10 - 1),
            "memory is short: 400 MB available, snapshots and a tenth of the memory to spare need 400 MB",
        ),
        (replace(ROOMY, free=2 * SIZE + 10**6, available=3 * SIZE + GIGABYTE // 10), None),
    ],
)
def test_without_room_for_two_it_is_skipped_before_anything_is_copied(
    memory: Path, space: MemorySpace, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the sizes count here: tensors without memory behind them.
    copied = []
    monkeypatch.setattr(memory_module, "copy_tensors", lambda files, kept: copied.append(files) or tensors(10))
    files = {MODEL: {"weight": torch.zeros(1).expand(25_000_000), "half": torch.zeros(3, dtype=torch.bfloat16)}}
    files[OPTIMIZER] = tensors(10)[OPTIMIZER]
    folder = memory / "node"
    saves = Saves(folder, lambda path: space)
    saves.snapshots.save(10, files, state(10))
    saves.snapshots.wait()
    if reason is None:
        assert (len(copied), saves.skipped) == (1, [])
    else:
        assert (copied, saves.skipped) == ([], [(10, reason.format(folder=folder))])
        assert not folder.exists()


def test_what_is_there_already_counts_as_room(memory: Path) -> None:
    elements = 1_000_000
    size = 4 * elements + 6 + 48
    less = {"free": 0, "available": 0}

    def just_enough(folder: Path) -> MemorySpace:
        held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        copies = 2 if held else 3
        return MemorySpace("tmpfs", 2 * size + 10**6 - held - less["free"], copies * size - held - less["available"], 0)

    saves = Saves(memory / "node", just_enough)
    saves.save(10, 20, elements=elements)
    left = memory / "node" / f".step-00000030.{os.getpid()}-1.partial"
    left.mkdir()
    (left / MODEL).write_bytes(bytes(size))
    saves.save(30, elements=elements)
    assert (whole(memory / "node"), saves.skipped) == ([30, 20], [])
    for step, what in ((40, "free"), (50, "available")):
        less[what] = 1
        saves.save(step, elements=elements)
        less[what] = 0
    assert [step for step, _ in saves.skipped] == [40, 50]
    assert whole(memory / "node") == [30, 20]


def test_a_folder_on_a_disk_is_no_place_for_it(tmp_path: Path) -> None:
    kind = memory_module.memory_space(tmp_path).file_system
    if kind == "tmpfs":
        pytest.skip("temporary files are in memory here")
    saves = Saves(tmp_path / "node")
    saves.save(10)
    assert saves.skipped == [(10, f"{tmp_path / 'node'} is not in memory: its file system is {kind}, not tmpfs")]
    assert names(tmp_path) == []


def test_a_tmpfs_that_is_full_in_the_middle_costs_only_that_snapshot(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk:
        folder = disk / "node"
        saves = Saves(folder, lambda path: ROOMY)
        saves.save(10, 20, elements=50_000)
        filler = fill(disk)
        saves.save(30, elements=100_000)
        ((step, reason),) = saves.skipped
        assert (step, reason.endswith("cannot be written: No space left on device")) == (30, True)
        assert whole(folder) == [20]
        assert names(folder) == ["step-00000020"]
        filler.unlink()
        saves.save(40, elements=50_000)
        assert whole(folder) == [40, 20]


def test_no_thread_to_be_had_is_no_reason_to_stop(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    saves = Saves(memory / "node")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        saves.save(10)
    saves.save(20)
    assert saves.skipped == [(10, """RuntimeError("can't start new thread")""")]
    assert whole(memory / "node") == [20]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("cannot\nallocate"), OSError(12, "Cannot allocate")])
def test_a_copy_that_fails_is_skipped_in_one_line(
    memory: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    saves = Saves(memory / "node")
    saves.save(10)
    monkeypatch.setattr(memory_module, "copy_tensors", fail)
    saves.save(20)
    ((step, reason),) = saves.skipped
    assert (step, reason.count("\n")) == (20, 0)
    # The memory for the copy is given back where there may be too little.
    assert saves.snapshots._copies == {}
    monkeypatch.undo()
    saves.save(30)
    assert whole(memory / "node") == [30, 10]


def test_a_state_that_cannot_be_written_is_skipped(memory: Path) -> None:
    saves = Saves(memory / "node")
    saves.snapshots.save(10, {MODEL: {"odd": torch.zeros(2, dtype=torch.complex128)}}, state(10))
    saves.snapshots.wait()
    saves.snapshots.save(20, tensors(20), {"tokens": 1})
    saves.snapshots.wait()
    assert [step for step, _ in saves.skipped] == [10, 20]
    assert names(memory / "node") == []


def test_a_folder_in_which_others_can_write_is_not_used(memory: Path) -> None:
    folder = memory / "node"
    folder.mkdir()
    folder.chmod(0o777)
    saves = Saves(folder)
    saves.save(10)
    assert saves.skipped == [(10, f"{folder} is not a folder that only this user can write in; remove it")]
    assert names(folder) == []


def test_what_the_callbacks_raise_is_raised_by_the_next_call(memory: Path) -> None:
    def fail(*said: Any) -> None:
        raise ValueError("the spool")

    folder = memory / "user" / "run" / "node"
    snapshots = MemorySnapshots(folder, fail, fail)
    snapshots.save(10, tensors(10), state(10))
    with pytest.raises(ValueError, match="the spool"):
        snapshots.wait()
    snapshots.wait()
    assert whole(folder) == [10]
    snapshots.save(20, tensors(20), state(20))
    with pytest.raises(ValueError, match="the spool"):
        snapshots.close(remove=True)
    assert names(memory) == []
    elsewhere = MemorySnapshots(Path("/proc/no/node"), fail, fail)
    with pytest.raises(ValueError, match="the spool"):
        elsewhere.save(10, tensors(10), state(10))


@pytest.mark.parametrize(("before", "step"), [((10, 20), 30), ((), 30), ((30, 40), 30), ((10, 30), 30)])
def test_killed_before_any_change_the_one_before_is_offered_and_the_partial_one_is_not(
    memory: Path, before: tuple[int, ...], step: int
) -> None:
    def save(folder: Path) -> None:
        saves = Saves(folder)
        with unwatched():
            saves.save(*before)
        saves.save(step)
        assert [said["step"] for said in saves.saved] == [*before, step]

    changes = run_until_killed(lambda: save(memory / "whole"), None)
    assert changes is not None
    complete = []
    for at in range(1, changes + 1):
        folder = memory / str(at)
        assert run_until_killed(lambda folder=folder, at=at: save(folder), at) is None
        offered = whole(folder)
        assert not before or set(offered) - {step}
        assert set(offered) <= {*before, step}
        complete.append(step in offered)
        # Who goes on is not disturbed by what was left, and clears it away.
        Saves(folder).save(50)
        assert whole(folder)[0] == 50
        assert all(layout.checkpoint_step(name) is not None for name in names(folder))
    if step not in before:
        # It has its name from one moment on.
        assert complete == sorted(complete)
        assert complete.count(False) > 10


def save_until_killed(folder: Path, pipe: int) -> None:
    """Save without a pause and tell of each; never returns."""

    def tell(said: dict[str, Any]) -> None:
        os.write(pipe, said["step"].to_bytes(4, "little"))

    snapshots = MemorySnapshots(folder, tell, lambda step, reason: os._exit(1))
    for step in range(1, 1_000_000):
        snapshots.save(step, tensors(step, 300_000), state(step))
        snapshots.wait()


def test_killed_at_any_moment_one_of_the_newest_two_is_offered(memory: Path) -> None:
    rng = random.Random(5)
    for life in range(6):
        folder = memory / str(life)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            save_until_killed(folder, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            for _ in range(rng.randrange(1, 20)):
                assert pipe.read(4)
            os.kill(pid, signal.SIGKILL)
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status)
        offered = whole(folder)
        assert 1 <= len(offered) <= 2
        if len(said) >= 4:
            last = int.from_bytes(said[-4:], "little")
            assert offered[0] in (last, last + 1)


def test_what_living_processes_are_writing_is_left_alone(memory: Path) -> None:
    folder = memory / "node"
    Saves(folder).save(10)
    mine = f".step-00000020.{os.getpid()}-{memory_module.start_ticks(os.getpid())}.partial"
    earlier = f".step-00000020.{os.getpid()}-1.partial"
    for name in (mine, earlier):
        (folder / name).mkdir()
    Saves(folder).save(30)
    assert names(folder) == [mine, "step-00000010", "step-00000030"]
