from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import bundles, recovery

from recorder.cli.main import main


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one bundle of each kind."""
    root = tmp_path_factory.mktemp("cli") / "runs"
    kinds = (bundles.finished, bundles.failed, bundles.killed, bundles.resumed, bundles.continued)
    for days, make in enumerate(kinds):
        make(root, make.__name__, clock=bundles.ticking_clock(bundles.BEGINNING + 86400 * days, tick=0.25))
    return root


@pytest.fixture(scope="session")
def recovered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs that lost workers and went on."""
    root = tmp_path_factory.mktemp("recovered") / "runs"
    for make in (recovery.recovered, recovery.lost_node, recovery.differed):
        make(root, make.__name__)
    return root


@pytest.fixture
def own_runs(runs: Path, tmp_path: Path) -> Path:
    """A copy of `runs` to change."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


@pytest.fixture
def recorder(runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Run `recorder` in this process, 80 columns wide, with the folder `runs` unless another is named."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str, root: Path = runs) -> Said:
        code = main([*arguments, "--runs", str(root)])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run
