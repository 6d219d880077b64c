from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import bundles, recovery


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One bundle of each kind, made once. Tests that change one take a copy."""
    root = tmp_path_factory.mktemp("made") / "runs"
    kinds = (bundles.finished, bundles.failed, bundles.killed, bundles.resumed, bundles.continued)
    kinds += (recovery.recovered, recovery.lost_node, recovery.differed)
    return {make.__name__: make(root, make.__name__) for make in kinds}


@pytest.fixture
def copy_of(made: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A fresh copy of one of `made`, by name."""

    def copy(kind: str) -> Path:
        target = tmp_path / "runs" / kind
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made[kind], target)
        return target

    return copy
