"""A due checkpoint whose writer was lost is made up for; driver and coordinator are real, workers act."""

from __future__ import annotations

import pytest
from helpers.acting import CompanyDriver

from recorder.run import Run
from train.config import Config
from train.launch.roster import Roster
from train.membership.messages import Form, Position, Seat, Source, Stage

# What is waited for in vain is found out sooner than elsewhere.
pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def driver(run: Run, config: Config) -> CompanyDriver:
    """A checkpoint is due every other step; workers that act write none but those that are asked for."""
    checkpoint = config.checkpoint.model_copy(update={"every": 2})
    config = config.model_copy(update={"checkpoint": checkpoint})
    return CompanyDriver(run, config, Roster(run, config, "class-a"), min_workers=1)


def saved(driver: CompanyDriver) -> list[int]:
    return [fields["step"] for fields in driver.fields("checkpoint.saved")]


@pytest.mark.parametrize(("worker", "steps"), [("rank-0.0", [4]), ("rank-1.0", [])])
def test_a_checkpoint_that_the_lost_leader_was_writing_is_saved_at_the_next_step(
    driver: CompanyDriver, worker: str, steps: list[int]
) -> None:
    driver.plays(driver.trains(3), driver.loses(worker), driver.trains(7), "sigterm")
    assert saved(driver) == steps, "the other one writes none"


def test_a_checkpoint_that_is_there_is_not_saved_again(driver: CompanyDriver) -> None:
    driver.plays(
        driver.trains(3), lambda: driver.company.save(2), driver.loses("rank-0.0"), driver.trains(7), "sigterm"
    )
    assert saved(driver) == [2]


def test_one_whose_turn_is_yet_to_come_is_not_missed(driver: CompanyDriver) -> None:
    due = driver.supervisor._due
    for stage, missing in ((Stage.SAVE, False), (Stage.SETTLED, True)):
        form = Form(0, [Seat("rank-0.0", 0, "n")], Source("live", 4), Position(4, stage), ["rank-0.0"])
        due.look(form)
        due.lose("rank-0.0")
        assert driver.company.coordinator._save is False
        due.look(form)
        assert driver.company.coordinator._save is missing
