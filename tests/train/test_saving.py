"""Who saves what: the leader checkpoints, one worker a node snapshots, and what is there is not saved again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recorder.bundle import layout
from recorder.checkpoint.memory_space import memory_space
from recorder.checkpoint.record import damage, read_commit_marker
from recorder.errors import RecordingError
from train.saving import Saver

WHO = {"node": "node-a", "rank": 1, "worker": "rank-1.0"}


class State:
    """As much of a training as is saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def files(self) -> dict[str, dict[str, torch.Tensor]]:
        weight = torch.full((8,), float(self.step))
        return {layout.CHECKPOINT_MODEL: {"weight": weight}, layout.CHECKPOINT_OPTIMIZER: {"moment": weight}}

    def state(self) -> dict[str, Any]:
        return {"fingerprint": f"of step {self.step}"}


class Member:
    """A saver and what it reports; `bundle` and `memory` may be shared with others."""

    def __init__(self, bundle: Path, memory: Path) -> None:
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.saver = Saver(bundle, memory, lambda type, **fields: self.reports.append((type, fields)), WHO)

    def save(self, step: int) -> None:
        self.saver.save(State(step))  # type: ignore[arg-type]
        self.saver.wait()

    def snapshot(self, step: int) -> None:
        self.saver.snapshot(State(step))  # type: ignore[arg-type]
        self.saver._snapshots.wait()

    def reported(self) -> list[tuple[str, int]]:
        return [(type, fields["step"]) for type, fields in self.reports]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder for snapshots in this machine's real tmpfs."""
    root = Path("/dev/shm")
    if not root.is_dir() or memory_space(root).file_system != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs")
    folder = Path(tempfile.mkdtemp(prefix="run-recorder-test-", dir=root))
    yield folder / "demo" / "node-a"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def member(tmp_path: Path, memory: Path) -> Member:
    return Member(tmp_path, memory)


def test_the_leader_alone_writes_checkpoints(tmp_path: Path, member: Member) -> None:
    member.save(5)
    assert member.reports == []
    assert not (tmp_path / layout.CHECKPOINTS).exists()
    member.saver.is_leader = True
    member.save(5)
    ((type, fields),) = member.reports
    assert (type, fields["step"], fields["path"]) == ("checkpoint.saved", 5, layout.checkpoint_folder(5))
    assert damage(tmp_path / fields["path"], fields["files"]) is None


def test_a_checkpoint_that_an_earlier_leader_wrote_is_not_written_again(
    tmp_path: Path, memory: Path, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Member(tmp_path, memory)
    earlier.saver.is_leader = member.saver.is_leader = True
    earlier.save(5)
    written: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr("train.saving.CheckpointWriter.save", lambda *arguments: written.append(arguments))
        member.save(5)
    assert written == member.reports == []
    member.save(6)
    assert member.reported() == [("checkpoint.saved", 6)]


def test_two_leaders_in_a_row_may_write_the_same_checkpoint_at_once(
    tmp_path: Path, memory: Path, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one looks while the first is still writing."""
    earlier = Member(tmp_path, memory)
    earlier.saver.is_leader = member.saver.is_leader = True
    with monkeypatch.context() as patch:
        patch.setattr("train.saving.read_commit_marker", lambda folder: None)
        for one in (earlier, member):
            one.save(5)
    assert earlier.reported() + member.reported() == [("checkpoint.saved", 5)]
    assert read_commit_marker(tmp_path / layout.checkpoint_folder(5)) is not None


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path, member: Member) -> None:
    (tmp_path / layout.CHECKPOINTS).write_text("in the way")
    member.saver.is_leader = True
    with pytest.raises(RecordingError):
        member.save(5)


def test_one_worker_a_node_saves_snapshots(memory: Path, member: Member) -> None:
    member.snapshot(5)
    assert member.reports == []
    member.saver.is_saver = True
    member.snapshot(10)
    ((type, fields),) = member.reports
    assert (type, fields["step"], fields["fingerprint"]) == ("snapshot.saved", 10, "of step 10")
    assert WHO.items() <= fields.items()
    assert {step: offer.path.parent for step, offer in member.saver.offers().items()} == {10: memory}


def test_what_hinders_a_snapshot_is_an_event(tmp_path: Path) -> None:
    member = Member(tmp_path, tmp_path / "on a disk")
    if memory_space(tmp_path).file_system == "tmpfs":
        pytest.skip("the temporary folder is in memory")
    member.saver.is_saver = True
    member.snapshot(10)
    ((type, fields),) = member.reports
    assert (type, fields["step"]) == ("snapshot.skipped", 10)
    assert WHO.items() <= fields.items()
    assert "not tmpfs" in fields["reason"]


def test_whoever_comes_after_is_offered_what_is_undamaged(tmp_path: Path, memory: Path, member: Member) -> None:
    member.saver.is_saver = True
    for step in (10, 20):
        member.snapshot(step)
    member.saver.close(remove_snapshots=False)
    later = Member(tmp_path, memory)
    assert sorted(later.saver.offers()) == [10, 20]
    weights = later.saver.offers()[20].path / layout.CHECKPOINT_MODEL
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    assert sorted(later.saver.offers()) == [10]


def test_nothing_stays_in_memory_once_the_run_is_over(memory: Path, member: Member) -> None:
    member.saver.is_saver = True
    member.snapshot(10)
    member.saver.close(remove_snapshots=True)
    assert not memory.exists()
    assert member.saver.offers() == {}
