from __future__ import annotations

import json
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.children import Counter
from helpers.disks import fill, small_disk
from helpers.kill_points import run_until_killed
from safetensors.torch import load_file

from recorder.bundle import layout
from recorder.bundle.files import digest_file
from recorder.checkpoint import writer as writer_module
from recorder.checkpoint.record import damage, read_commit_marker
from recorder.checkpoint.writer import CheckpointWriter
from recorder.errors import RecordingError

MODEL, OPTIMIZER = layout.CHECKPOINT_MODEL, layout.CHECKPOINT_OPTIMIZER


class Over(Exception):
    """Whoever waited has something else to do."""


@pytest.fixture
def announced() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def writer(tmp_path: Path, announced: list[dict[str, Any]]) -> CheckpointWriter:
    return CheckpointWriter(tmp_path, announced.append)


def state(seed: int = 0, elements: int = 100) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    model = {"weight": torch.randn(elements, generator=generator), "half": torch.ones(3, dtype=torch.bfloat16)}
    return {MODEL: model, OPTIMIZER: {"step": torch.tensor(7), "transposed": torch.arange(6).reshape(2, 3).T}}


def folders(bundle: Path) -> list[str]:
    return sorted(path.name for path in (bundle / layout.CHECKPOINTS).iterdir())


def test_a_checkpoint_is_what_was_saved_and_what_is_said_of_it(
    tmp_path: Path, writer: CheckpointWriter, announced: list[dict[str, Any]]
) -> None:
    files = state()
    writer.save(10, files, {"tokens": 64, "fingerprint": "ab"})
    writer.wait()
    (said,) = announced
    folder = tmp_path / layout.checkpoint_folder(10)
    assert (said["step"], said["path"]) == (10, "checkpoints/step-00000010")
    assert said["files"] == {path.name: digest_file(path).record() for path in folder.iterdir()}
    assert read_commit_marker(folder) == {"step": 10, "files": said["files"]}
    assert damage(folder, said["files"]) is None
    for name, tensors in files.items():
        read = load_file(folder / name)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[key], tensors[key]) and read[key].dtype == tensors[key].dtype for key in tensors)
    marker = json.loads((folder / layout.CHECKPOINT_STATE).read_bytes())
    assert (marker["format"], marker["state"]) == (1, {"tokens": 64, "fingerprint": "ab"})
    assert all(path.stat().st_mode & 0o222 == 0 for path in folder.iterdir())


def test_training_may_change_the_tensors_as_soon_as_save_returns(
    tmp_path: Path, writer: CheckpointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, write = threading.Event(), writer_module.write_safetensors

    def write_later(*arguments: Any) -> Any:
        assert changed.wait(60)
        return write(*arguments)

    monkeypatch.setattr(writer_module, "write_safetensors", write_later)
    files = state()
    before = files[MODEL]["weight"].clone()
    writer.save(10, files, {})
    files[MODEL]["weight"].zero_()
    changed.set()
    writer.wait()
    assert torch.equal(load_file(tmp_path / layout.checkpoint_folder(10) / MODEL)["weight"], before)


def test_the_memory_for_the_copy_is_kept_and_follows_the_shapes(tmp_path: Path, writer: CheckpointWriter) -> None:
    places = []
    for step, elements in ((1, 100), (2, 100), (3, 50)):
        files = state(step, elements)
        writer.save(step, files, {})
        places.append(writer._copies[f"{MODEL}/weight"].data_ptr())
        writer.wait()
        read = load_file(tmp_path / layout.checkpoint_folder(step) / MODEL)["weight"]
        assert torch.equal(read, files[MODEL]["weight"])
    assert places[0] == places[1]


def test_the_marker_is_written_last_and_the_name_is_given_after_it(
    tmp_path: Path, writer: CheckpointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, write = [], writer_module.write_file

    def look(path: Path, data: bytes) -> Any:
        seen.append((path.name, sorted(entry.name for entry in path.parent.iterdir()), folders(tmp_path)))
        return write(path, data)

    monkeypatch.setattr(writer_module, "write_file", look)
    writer.save(10, state(), {})
    writer.wait()
    partial = f".step-00000010.{os.getpid()}.partial"
    assert seen == [(layout.CHECKPOINT_STATE, [MODEL, OPTIMIZER], [partial])]
    assert folders(tmp_path) == ["step-00000010"]


def test_a_failure_is_raised_by_the_next_call_and_leaves_nothing(
    tmp_path: Path, writer: CheckpointWriter, announced: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer_module, "write_file", fail)
    writer.save(10, state(), {})
    with pytest.raises(RecordingError, match=r"cannot write .*step-00000010: the disk is full; free some space"):
        writer.save(20, state(), {})
    assert (announced, folders(tmp_path)) == ([], [])
    monkeypatch.undo()
    writer.save(20, state(), {})
    writer.wait()
    assert folders(tmp_path) == ["step-00000020"]


def test_a_state_that_cannot_be_written_is_said_in_one_line(tmp_path: Path, writer: CheckpointWriter) -> None:
    writer.save(10, {MODEL: {"odd": torch.zeros(2, dtype=torch.complex128)}}, {})
    with pytest.raises(RecordingError, match="checkpoint of step 10 failed: TypeError"):
        writer.wait()
    writer.wait()
    assert folders(tmp_path) == []


def test_an_announcement_that_fails_is_raised_and_the_checkpoint_stays(tmp_path: Path) -> None:
    def fail(said: dict[str, Any]) -> None:
        raise RecordingError("cannot write the spool")

    writer = CheckpointWriter(tmp_path, fail)
    writer.save(10, state(), {})
    with pytest.raises(RecordingError, match="cannot write the spool"):
        writer.wait()
    assert folders(tmp_path) == ["step-00000010"]


def test_a_checkpoint_that_is_there_is_left_alone(tmp_path: Path, writer: CheckpointWriter) -> None:
    writer.save(10, state(1), {})
    writer.wait()
    before = (tmp_path / layout.checkpoint_folder(10) / MODEL).read_bytes()
    writer.save(10, state(2), {})
    with pytest.raises(RecordingError, match=r"cannot write .*step-00000010"):
        writer.wait()
    assert (tmp_path / layout.checkpoint_folder(10) / MODEL).read_bytes() == before
    assert folders(tmp_path) == ["step-00000010"]


def test_what_an_earlier_process_of_this_number_left_does_not_matter(tmp_path: Path, writer: CheckpointWriter) -> None:
    partial = tmp_path / layout.CHECKPOINTS / f".step-00000010.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    (partial / MODEL).write_bytes(b"half")
    writer.save(10, state(), {})
    writer.wait()
    assert folders(tmp_path) == ["step-00000010"]


def test_on_a_full_disk_no_half_checkpoint_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        filler = fill(disk)
        filler.write_bytes(bytes(filler.stat().st_size - 64 * 1024))
        writer = CheckpointWriter(disk, lambda said: None)
        writer.save(10, state(elements=50_000), {})
        with pytest.raises(RecordingError, match=r"^cannot write [^\n]*step-00000010: the disk is full; [^\n]*$"):
            writer.wait()
        assert folders(disk) == []


def look_complete(bundle: Path) -> list[str]:
    """The folders that go by a checkpoint's name; each must be one to the last bit."""
    names = [path for path in (bundle / layout.CHECKPOINTS).glob("*") if layout.checkpoint_step(path.name) is not None]
    for path in names:
        marker = read_commit_marker(path)
        assert marker is not None
        assert damage(path, marker["files"]) is None
        assert load_file(path / MODEL)
    return sorted(path.name for path in names)


def test_killed_before_any_change_it_leaves_no_folder_that_looks_complete(tmp_path: Path) -> None:
    def save(bundle: Path) -> None:
        writer = CheckpointWriter(bundle, lambda said: None)
        writer.save(10, state(), {"tokens": 64})
        writer.wait()

    changes = run_until_killed(lambda: save(tmp_path / "whole"), None)
    assert changes is not None
    complete = []
    for at in range(1, changes + 1):
        assert run_until_killed(lambda at=at: save(tmp_path / str(at)), at) is None
        complete.append(bool(look_complete(tmp_path / str(at))))
    # It has its name from one moment on; what comes after that only makes it durable.
    assert complete == sorted(complete)
    assert 0 < sum(complete) <= 2


def test_killed_at_any_moment_it_leaves_no_folder_that_looks_complete(tmp_path: Path) -> None:
    rng = random.Random(3)
    files = state(elements=30_000)
    for life in range(6):
        bundle, counter = tmp_path / str(life), Counter(tmp_path / f"counter-{life}")
        pid = os.fork()
        if pid == 0:
            writer = CheckpointWriter(bundle, lambda said, counter=counter: counter.set(said["step"]))
            for step in range(1, 1_000_000):
                writer.save(step, files, {})
        for _ in range(rng.randrange(1, 20)):
            before = counter.get()
            while counter.get() == before:
                pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        complete = look_complete(bundle)
        assert len(complete) - counter.get() in (0, 1)
        partial = [name for name in folders(bundle) if name not in complete]
        assert all(layout.is_partial(name) for name in partial)
        assert len(partial) <= 1


def test_of_two_that_save_the_same_state_the_first_one_counts(
    tmp_path: Path, writer: CheckpointWriter, announced: list[dict[str, Any]]
) -> None:
    """As when the leadership changes while the former leader is still writing."""
    writer.save(10, state(), {"tokens": 64})
    writer.wait()
    writer.save(10, state(), {"tokens": 64})
    writer.wait()
    assert [said["step"] for said in announced] == [10]
    assert folders(tmp_path) == ["step-00000010"]
    assert damage(tmp_path / layout.checkpoint_folder(10), announced[0]["files"]) is None


def test_what_is_no_checkpoint_in_the_way_of_one_is_an_error(tmp_path: Path, writer: CheckpointWriter) -> None:
    folder = tmp_path / layout.checkpoint_folder(10)
    folder.mkdir(parents=True)
    (folder / "something").touch()
    writer.save(10, state(), {})
    with pytest.raises(RecordingError, match="step-00000010"):
        writer.wait()
    assert folders(tmp_path) == ["step-00000010"]


def test_who_waits_for_a_checkpoint_can_be_called_away_and_it_is_written_all_the_same(
    writer: CheckpointWriter, announced: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, may_write, looked = writer_module.write_files, threading.Event(), []

    def hold(*arguments: Any) -> Any:
        assert may_write.wait(60)
        return write(*arguments)

    def meanwhile() -> None:
        looked.append("look")
        if len(looked) == 2:
            raise Over

    monkeypatch.setattr(writer_module, "write_files", hold)
    monkeypatch.setattr(writer_module, "_LOOK_SECONDS", 0.0)
    files = {MODEL: {"weight": torch.zeros(8)}, OPTIMIZER: {"moment": torch.zeros(8)}}
    writer.save(1, files, {})
    with pytest.raises(Over):
        writer.save(2, files, {}, meanwhile)
    assert len(looked) == 2
    may_write.set()
    writer.wait()
    writer.save(2, files, {})
    writer.wait()
    assert [saved["step"] for saved in announced] == [1, 2]
