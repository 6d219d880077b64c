from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.pipelines import Checkout


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def fresh_repro(tmp_path_factory: pytest.TempPathFactory, _environment: None) -> tuple[Checkout, str]:
    """A fresh clone in which `dvc repro` ran once, and what it said; nothing changes it afterwards."""
    checkout = Checkout.make(tmp_path_factory.mktemp("pipeline") / "first")
    return checkout, checkout.dvc("repro")


@pytest.fixture
def trained(fresh_repro: tuple[Checkout, str], request: pytest.FixtureRequest) -> Checkout:
    """A copy of it of the test's own."""
    first = fresh_repro[0].folder
    folder = first.parent / request.node.name[:60]
    shutil.copytree(first, folder, symlinks=True)
    return Checkout(folder)
