from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import write_checkpoint

from recorder.bundle import layout
from recorder.checkpoint.record import damage, read_commit_marker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "step-00000010", 10)
    for path in (tmp_path / "step-00000010").iterdir():
        path.chmod(0o644)
    return tmp_path / "step-00000010"


def test_the_marker_tells_what_the_event_says(tmp_path: Path) -> None:
    saved = write_checkpoint(tmp_path / "step-00000010", 10)
    assert read_commit_marker(tmp_path / "step-00000010") == {"step": 10, "files": saved}


def test_a_whole_checkpoint_has_no_damage(folder: Path) -> None:
    marker = read_commit_marker(folder)
    assert marker is not None
    assert damage(folder, marker["files"]) is None


def test_damage_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = read_commit_marker(folder)
    assert marker is not None
    path = folder / layout.CHECKPOINT_MODEL
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        assert damage(folder, marker["files"]) == "model.safetensors does not match its digest"
    path.write_bytes(whole[:-1])
    assert damage(folder, marker["files"]) == f"model.safetensors has {len(whole) - 1} bytes instead of {len(whole)}"
    path.unlink()
    assert damage(folder, marker["files"]) == "model.safetensors is missing"
    path.write_bytes(whole)

    def fail(path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("recorder.checkpoint.record.blake3_file", fail)
    assert damage(folder, marker["files"]) == "model.safetensors cannot be read: Input/output error"


@pytest.mark.parametrize(
    "marker",
    [
        None,
        "",
        "[]",
        "{}",
        '{"step": "x", "files": {}}',
        '{"step": 1}',
        '{"step": 1, "files": 3}',
        '{"step": 1, "files": {"x": 1}}',
    ],
)
def test_a_folder_without_a_marker_of_ours_is_no_checkpoint(folder: Path, marker: str | None) -> None:
    if marker is None:
        (folder / layout.CHECKPOINT_STATE).unlink()
    else:
        (folder / layout.CHECKPOINT_STATE).write_text(marker)
    assert read_commit_marker(folder) is None


@pytest.mark.parametrize("change", ["missing", "cut"])
def test_a_folder_that_lacks_what_its_marker_names_is_no_checkpoint(folder: Path, change: Any) -> None:
    path = folder / layout.CHECKPOINT_OPTIMIZER
    path.unlink() if change == "missing" else path.write_bytes(path.read_bytes()[:-1])
    assert json.loads((folder / layout.CHECKPOINT_STATE).read_bytes())["step"] == 10
    assert read_commit_marker(folder) is None
