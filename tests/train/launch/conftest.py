from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY, events_of
from hydra import compose, initialize_config_dir

from recorder.bundle.schema import EVENT, violation
from recorder.run import Run
from train.compose import plain, validate
from train.config import Config
from train.launch.roster import Roster


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run whose attempt has begun; every event that a test makes must be as its published schema says."""
    with Run.create(tmp_path / "runs", run_id="demo", spools=tmp_path / "spools", seed=1) as run:
        run.begin_attempt()
        yield run
        assert [wrong for event in events_of(run.path) if (wrong := violation(EVENT, event))] == []


@pytest.fixture
def config() -> Config:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return validate(plain(compose("config", ["train.micro_batches=6", "train.steps=100", "cluster.workers=3"])))


@pytest.fixture
def roster(run: Run, config: Config) -> Roster:
    return Roster(run, config, "class-a")
