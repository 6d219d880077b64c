from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.bundles import write_checkpoint

from recorder.bundle import layout
from recorder.checkpoint import snapshot as snapshot_module
from recorder.checkpoint.memory import Snapshot, check, local_node_key, memory_folder, offers, remove_memory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Snapshots of steps 10 and 20; what they are read from need not be in memory."""
    folder = tmp_path / "node"
    folder.mkdir(mode=0o700)
    for step in (10, 20):
        write_checkpoint(folder / f"step-{step:08d}", step)
    return folder


def bundle(folder: Path, text: str = "{}") -> Path:
    folder.mkdir(parents=True)
    (folder / layout.RUN).write_text(text)
    return folder


def steps(folder: Path) -> list[int]:
    return [snapshot.step for snapshot in offers(folder)]


def test_the_newest_is_offered_first(folder: Path) -> None:
    newest, older = offers(folder)
    assert (newest.step, newest.path, older.step) == (20, folder / "step-00000020", 10)
    assert newest.fingerprint != older.fingerprint
    assert (check(newest), check(older)) == (None, None)


@pytest.mark.parametrize("change", ["cut", "missing", "no marker", "another name", "no fingerprint", "a file"])
def test_what_is_not_complete_is_not_offered(folder: Path, change: str) -> None:
    path = folder / "step-00000020"
    for file in path.iterdir():
        file.chmod(0o644)
    model, state = path / layout.CHECKPOINT_MODEL, path / layout.CHECKPOINT_STATE
    if change == "cut":
        model.write_bytes(model.read_bytes()[:-1])
    elif change == "another name":
        path.rename(folder / "step-00000030")
    elif change == "no fingerprint":
        state.write_text(state.read_text().replace('"fingerprint"', '"finger"'))
    elif change == "a file":
        path.rename(folder / ".step-00000020.partial")
        path.write_text("")
    else:
        (model if change == "missing" else state).unlink()
    assert steps(folder) == [10]


def test_folders_of_others_are_not_looked_at(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps(tmp_path / "missing") == []
    (tmp_path / "link").symlink_to(folder)
    assert steps(tmp_path / "link") == []
    for mode in (0o770, 0o702):
        folder.chmod(mode)
        assert steps(folder) == []
    folder.chmod(0o700)
    assert steps(folder) == [20, 10]
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert steps(folder) == []


def test_damage_is_named(folder: Path) -> None:
    newest, older = offers(folder)
    path = newest.path / layout.CHECKPOINT_MODEL
    path.chmod(0o644)
    flipped = bytearray(path.read_bytes())
    flipped[100] ^= 1
    path.write_bytes(flipped)
    assert steps(folder) == [20, 10]
    assert check(newest) == "model.safetensors does not match its digest"
    other = Snapshot(older.step, "another", older.path)
    assert check(other) == "it is not what was offered any more"
    for file in older.path.iterdir():
        file.unlink()
    assert check(older) == "it is not what was offered any more"


def test_each_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    one, other = bundle(tmp_path / "a" / "demo", "{}"), bundle(tmp_path / "b" / "demo", "[]")
    places = {memory_folder(path, node, tmp_path) for path in (one, other) for node in ("n1", "n2")}
    assert len(places) == 4
    place = memory_folder(one, "n1", tmp_path)
    assert place.relative_to(tmp_path).parts[0] == f"run-recorder-{os.getuid()}"
    assert place.parent.name.startswith("demo-")
    assert len(place.parent.name) == len("demo-") + 8
    assert memory_folder(one, "n1").is_relative_to("/dev/shm")


def test_what_a_run_has_is_removed_and_no_more(tmp_path: Path) -> None:
    one, other = bundle(tmp_path / "a" / "demo", "{}"), bundle(tmp_path / "b" / "demo", "[]")
    folders = {
        (path, node): memory_folder(path, node, tmp_path) / "step" for path in (one, other) for node in ("n1", "n2")
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    remove_memory(one, root=tmp_path)
    assert [key for key, folder in folders.items() if folder.exists()] == [(other, "n1"), (other, "n2")]
    remove_memory(one, root=tmp_path)
    remove_memory(other, root=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_key_of_this_machine_is_the_same_in_every_process_until_the_next_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from recorder.checkpoint.snapshot import local_node_key as key; print(key())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == local_node_key()
    monkeypatch.setattr(snapshot_module, "_BOOT_ID", tmp_path / "boot_id")
    without = local_node_key()
    (tmp_path / "boot_id").write_text("0a1b2c3d-4e5f\n")
    assert local_node_key() == "local-0a1b2c3d"
    assert len(without) == len("local-0a1b2c3d")
    assert int(without.removeprefix("local-"), 16) > 0
