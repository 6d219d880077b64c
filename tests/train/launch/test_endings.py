"""How a run ends when too few are left, or when somebody asks for it: driver and coordinator are real, workers act."""

from __future__ import annotations

import pytest
from helpers.acting import BOTH, CompanyDriver

from recorder.run import Run
from train.config import Config
from train.launch.roster import Roster

# What is waited for in vain is found out sooner than elsewhere.
pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def driver(run: Run, config: Config, roster: Roster) -> CompanyDriver:
    return CompanyDriver(run, config, roster)


def test_who_is_left_saves_and_the_run_fails_when_nobody_is_to_come(driver: CompanyDriver) -> None:
    """One of two, where both are needed: it would wait for ever."""
    driver.company.stillborn = {"rank-1.1", "rank-1.2"}
    assert driver.plays(driver.loses("rank-1.0")) == "failed"
    assert driver.company.started == [*BOTH, "rank-1.1"]
    assert driver.memberships() == [BOTH, ["rank-0.0"]], "it comes to an end in order"
    (failure,) = driver.fields("exception")
    assert failure["kind"] == "WorkersLost"
    assert "1 workers are left of cluster.min_workers=2: others were lost 2 times in a row" in failure["message"]


def test_nobody_is_started_any_more_after_a_signal(driver: CompanyDriver) -> None:
    """Nor waited for: what is left below `cluster.min_workers` saves and ends."""

    def is_signalled_before_it_is_lost() -> None:
        driver.company.stop_requested = lambda: driver.company.workers.keys() == {"rank-0.0"}

    assert driver.plays(is_signalled_before_it_is_lost, "sigterm", driver.loses("rank-1.0")) == "interrupted"
    assert driver.company.started == BOTH
    assert driver.memberships() == [BOTH, ["rank-0.0"]]


def replaces_nobody(driver: CompanyDriver) -> None:
    """Whoever would come in place of a lost one has not come yet."""
    start = driver.company.start
    driver.company.start = lambda job: job.incarnation or start(job)  # type: ignore[method-assign, return-value]


def test_a_signal_ends_the_waiting_for_workers(driver: CompanyDriver) -> None:
    replaces_nobody(driver)
    assert driver.plays(driver.loses("rank-1.0"), "sigterm") == "interrupted"
    assert driver.memberships() == [BOTH, ["rank-0.0"]]
    assert driver.fields("exception") == []


def test_where_nobody_who_trained_is_left_a_signal_ends_at_once(driver: CompanyDriver) -> None:
    replaces_nobody(driver)
    assert driver.plays(driver.loses("rank-1.0"), driver.loses("rank-0.0"), "sigterm") == "interrupted"
    assert driver.memberships() == [BOTH]
