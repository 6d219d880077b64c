from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import bundles, recovery
from helpers.browsers import browser
from helpers.commands import REPOSITORY

# Last, since one of the benchmarks has the name of a package.
sys.path.append(str(REPOSITORY / "benchmarks"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    with browser() as launched:
        yield launched


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each kind: finished, failed, killed, resumed, recovered."""
    root = tmp_path_factory.mktemp("released") / "runs"
    kinds = (bundles.finished, bundles.failed, bundles.killed, bundles.resumed, bundles.continued)
    for days, make in enumerate(kinds):
        make(root, make.__name__, clock=bundles.ticking_clock(bundles.BEGINNING + 86400 * days, tick=0.25))
    for make_recovered in (recovery.recovered, recovery.lost_node, recovery.differed):
        make_recovered(root, make_recovered.__name__)
    return root
