from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import bundles
from helpers.dvc_repositories import isolate_dvc
from helpers.publishing import Keys, Recorder, Said, make_key, publish

from recorder.cli.main import main


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path) -> Iterator[None]:
    before = dict(os.environ)
    isolate_dvc(tmp_path / "dvc-settings")
    os.environ |= {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_MAX_ATTEMPTS": "1"}
    os.environ |= {"HF_HOME": str(tmp_path / "hf")}
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    return Keys(make_key(folder / "own.pem"), folder / "own.pub", make_key(folder / "other.pem").with_suffix(".pub"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    """A folder with `runs/` of a finished and a killed run, and `released/`, the signed release of the first."""
    folder = tmp_path_factory.mktemp("made")
    bundles.finished(folder / "runs")
    bundles.killed(folder / "runs", "killed-1")
    publish(folder, folder / "released", key=keys.private)
    return folder


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` to change."""
    return Path(shutil.copytree(made, tmp_path / "lab"))


@pytest.fixture
def recorder(lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Run `recorder` in this process, in the folder of the lab."""
    monkeypatch.chdir(lab)

    def run(*arguments: str) -> Said:
        code = main([*map(str, arguments)])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run
