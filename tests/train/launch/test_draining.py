"""A node that will go: its workers leave before, with what they have; driver and coordinator are real, workers act."""

from __future__ import annotations

import pytest
from helpers.acting import BOTH, CompanyDriver

from recorder.run import Run
from train.config import Config
from train.launch.launcher import NodesDraining
from train.launch.roster import Roster

# What is waited for in vain is found out sooner than elsewhere.
pytestmark = pytest.mark.timeout(10)

LONG_PAST, FAR_OFF = 1.0, 4e9


@pytest.fixture
def pair(run: Run, config: Config, roster: Roster) -> CompanyDriver:
    """Two workers on two nodes, both needed; whoever comes in place of one comes to a third node, when it may."""
    driver = CompanyDriver(run, config, roster)
    driver.company.nodes = {"rank-1.0": "node-b", "rank-1.1": "node-c"}
    return driver


@pytest.fixture
def single(run: Run, config: Config, roster: Roster) -> CompanyDriver:
    driver = CompanyDriver(run, config, roster, workers=1, min_workers=1)
    driver.company.nodes = {"rank-0.0": "node-b"}
    return driver


def drained(driver: CompanyDriver) -> list[tuple[str, int]]:
    return [(fields["worker"], fields["step"]) for fields in driver.fields("worker.drained")]


def restored(driver: CompanyDriver) -> list[tuple[str, int]]:
    return [(fields["source"], fields["step"]) for fields in driver.fields("checkpoint.restored")]


def test_one_that_cannot_be_done_without_saves_and_leaves_before_its_node_goes(pair: CompanyDriver) -> None:
    """Who stays waits, with the state that was saved."""
    pair.company.delayed = {"rank-1.1"}
    draining = pair.hears(NodesDraining({"node-b": LONG_PAST}))
    things = [draining, pair.trains(4), pair.company.start_delayed, pair.trains(6), "sigterm"]
    assert pair.plays(*things) == "interrupted"
    assert drained(pair) == [("rank-1.0", 2)]
    assert [saved["step"] for saved in pair.fields("checkpoint.saved")] == [2]
    assert pair.memberships() == [BOTH, ["rank-0.0", "rank-1.1"]]
    assert [changed["start_step"] for changed in pair.fields("membership.changed")] == [0, 2]
    assert restored(pair) == [], "who stayed has it"


def test_the_only_worker_saves_and_leaves_and_the_next_begins_with_what_it_saved(single: CompanyDriver) -> None:
    draining = single.hears(NodesDraining({"node-b": LONG_PAST}))
    assert single.plays(draining, single.trains(4), single.trains(6), "sigterm") == "interrupted"
    assert drained(single) == [("rank-0.0", 2)]
    assert single.memberships() == [["rank-0.0"], ["rank-0.1"]]
    assert restored(single) == [("storage", 2)]
    assert single.fields("step.redone") == []
    assert single.company.coordinator.step == 6
    assert single.supervisor.untidy_nodes == {"node-b"}, "what was saved in its memory is still there"


def test_until_then_it_goes_on(single: CompanyDriver) -> None:
    draining = single.hears(NodesDraining({"node-b": FAR_OFF}))
    assert single.plays(draining, single.trains(4), "sigterm") == "interrupted"
    assert drained(single) == []
    assert [saved["step"] for saved in single.fields("checkpoint.saved")] == [2], "in case the node goes sooner"


def test_who_connects_from_a_node_that_is_drained_already_is_let_go(pair: CompanyDriver) -> None:
    pair.company.nodes["rank-1.1"] = "node-d"
    draining = pair.hears(NodesDraining({"node-d": FAR_OFF}))
    assert pair.plays(draining, pair.loses("rank-1.0"), pair.trains(3), "sigterm") == "interrupted"
    assert pair.company.started == [*BOTH, "rank-1.1", "rank-1.2"]
    assert pair.memberships()[-1] == ["rank-0.0", "rank-1.2"]


def test_who_has_left_is_not_counted_among_those_to_save_for(run: Run, config: Config, roster: Roster) -> None:
    """First one node goes, then all others that are left."""
    driver = CompanyDriver(run, config, roster, min_workers=1)
    driver.company.nodes = {"rank-1.0": "node-b", "rank-1.1": "node-c", "rank-0.0": "node-c"}
    first, then = (driver.hears(NodesDraining(nodes)) for nodes in ({"node-b": FAR_OFF}, {"node-c": FAR_OFF}))
    assert driver.plays(first, driver.trains(3), then, driver.trains(6), "sigterm") == "interrupted"
    assert ("rank-1.0", 2) in drained(driver)
    assert [saved["step"] for saved in driver.fields("checkpoint.saved")] != []


def test_a_drain_is_no_loss_that_counts_against_restarts(run: Run, config: Config, roster: Roster) -> None:
    driver = CompanyDriver(run, config, roster, restarts=0, min_workers=1)
    driver.company.nodes = {"rank-1.0": "node-b"}
    draining = driver.hears(NodesDraining({"node-b": FAR_OFF}))
    assert driver.plays(draining, driver.trains(3), "sigterm") == "interrupted"
    assert driver.memberships()[-1] == ["rank-0.0", "rank-1.1"]
