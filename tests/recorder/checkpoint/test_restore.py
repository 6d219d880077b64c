from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.bundles import write_checkpoint
from helpers.recording import checked_events, new_run, of_type, resumed_run

from recorder.bundle import layout
from recorder.bundle.verify import verify_bundle
from recorder.checkpoint.restore import newest_checkpoint
from recorder.ledger import events
from recorder.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with new_run(tmp_path) as run:
        for step in (10, 20):
            save(run, step)
        yield run


def save(run: Run, step: int) -> Path:
    path = layout.checkpoint_folder(step)
    run.event(events.CHECKPOINT_SAVED, step=step, path=path, files=write_checkpoint(run.path / path, step))
    return run.path / path


def flip(folder: Path) -> None:
    path = folder / layout.CHECKPOINT_MODEL
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def folder_of(run: Run, step: int) -> Path:
    return run.path / layout.checkpoint_folder(step)


def test_without_any_there_is_none(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        assert newest_checkpoint(run) is None


def test_the_newest_is_found(run: Run) -> None:
    assert newest_checkpoint(run) == (20, folder_of(run, 20))


def test_a_damaged_one_is_set_aside_recorded_and_the_step_can_be_saved_again(run: Run) -> None:
    flip(folder_of(run, 20))
    assert newest_checkpoint(run) == (10, folder_of(run, 10))
    aside = "checkpoints/damaged-00000020-attempt-0001"
    assert (run.path / aside / layout.CHECKPOINT_MODEL).is_file()
    assert of_type(checked_events(run.path), "checkpoint.removed") == [
        {
            "step": 20,
            "path": layout.checkpoint_folder(20),
            "reason": "damaged: model.safetensors does not match its digest",
            "kept_as": aside,
        }
    ]
    save(run, 20)
    assert newest_checkpoint(run) == (20, folder_of(run, 20))
    flip(folder_of(run, 20))
    assert newest_checkpoint(run) == (10, folder_of(run, 10))
    assert (run.path / f"{aside}-2").is_dir()
    run.close("finished")
    assert verify_bundle(run.path).findings == ()


def test_a_resume_leaves_what_was_set_aside_and_what_was_saved_again(tmp_path: Path, run: Run) -> None:
    flip(folder_of(run, 20))
    newest_checkpoint(run)
    save(run, 20)
    run.abandon()
    again = resumed_run(tmp_path)
    assert newest_checkpoint(again) == (20, folder_of(again, 20))
    assert (again.path / "checkpoints/damaged-00000020-attempt-0001").is_dir()
    again.close("finished")
    assert verify_bundle(again.path).findings == ()


def test_a_kill_between_the_event_and_the_move_is_made_good(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(folder_of(run, 20))
    with monkeypatch.context() as patch:
        patch.setattr("recorder.attempt.CheckpointInventory.remove", lambda *arguments: None)
        newest_checkpoint(run)
    run.abandon()
    assert folder_of(run, 20).is_dir()
    again = resumed_run(tmp_path)
    assert not folder_of(again, 20).exists()
    assert (again.path / "checkpoints/damaged-00000020-attempt-0001" / layout.CHECKPOINT_MODEL).is_file()
    again.abandon()


def test_a_folder_that_is_gone_is_recorded_as_damaged(run: Run) -> None:
    shutil.rmtree(folder_of(run, 20))
    assert newest_checkpoint(run) == (10, folder_of(run, 10))
    (removed,) = of_type(checked_events(run.path), "checkpoint.removed")
    assert removed["reason"] == "damaged: model.safetensors is missing"


def test_when_all_are_damaged_there_is_none(run: Run) -> None:
    for step in (10, 20):
        flip(folder_of(run, step))
    assert newest_checkpoint(run) is None
    assert newest_checkpoint(run) is None
    assert len(of_type(checked_events(run.path), "checkpoint.removed")) == 2
