"""A temporary copy that DVC makes for an experiment is told from any other folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.tracking.workspace import lasting, temporary_workspace


@pytest.fixture
def copy(repository: Path) -> Path:
    folder = repository / ".dvc" / "tmp" / "exps" / "tmpabc"
    (folder / ".dvc").mkdir(parents=True)
    (folder / "sub").mkdir()
    return folder


def test_folders_of_a_copy_are_those_of_the_repository(
    repository: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.chdir(copy)
    assert temporary_workspace() == (copy, repository)
    assert lasting(Path("runs")) == repository / "runs"
    assert lasting(Path("/elsewhere")) == Path("/elsewhere")
    monkeypatch.chdir(copy / "sub")
    assert lasting(Path("runs")) == repository / "sub" / "runs"


def test_anywhere_else_a_folder_is_itself(
    repository: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    assert lasting(Path("runs")) == Path("runs")
    # A stage of another repository that calls into this one: DVC_ROOT is the outer one's.
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "outer"))
    assert lasting(Path("runs")) == Path("runs")
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.chdir(repository)
    assert temporary_workspace() is None
    assert lasting(Path("runs")) == Path("runs")
