from __future__ import annotations

from pathlib import Path

import pytest
from helpers.commands import TINY, only_bundle, train


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished run of 40 steps with two workers: what every disturbed run must equal."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = train(folder, *TINY, "train.steps=40", "checkpoint.every=10", "train.eval_every=20", "checkpoint.keep=2")
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="session")
def undisturbed_bundle(undisturbed: Path) -> Path:
    return only_bundle(undisturbed)
