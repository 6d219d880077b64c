from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.dvc_repositories import isolate_dvc, new_repository


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path) -> Iterator[None]:
    before = dict(os.environ)
    isolate_dvc(tmp_path / "dvc-settings")
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git and DVC repository with one commit."""
    return new_repository(tmp_path / "repository")
