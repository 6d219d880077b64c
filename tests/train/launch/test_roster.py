"""What the driver concludes from what workers and Ray say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.commands import events_of
from hydra import compose, initialize_config_dir

from recorder.run import Run
from train.compose import plain, validate
from train.launch.ray_cluster import Loss
from train.launch.roster import Roster


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", run_id="roster", spools=tmp_path / "spools")


@pytest.fixture
def roster(run: Run) -> Roster:
    with initialize_config_dir(str(Path(__file__).parents[3] / "conf"), version_base="1.3"):
        config = validate(plain(compose("config")))
    roster = Roster(run, config, "class-a")
    roster.begin_membership(0, 0)
    return roster


def joined(rank: int, determinism: str = "class-a") -> dict[str, Any]:
    return {"rank": rank, "node": "n", "pid": 100 + rank, "micro_batches": [0, 4], "determinism": determinism}


def finished(rank: int, outcome: str = "finished") -> dict[str, Any]:
    return {"rank": rank, "outcome": outcome}


def test_a_membership_is_recorded_when_all_have_joined(run: Run, roster: Roster) -> None:
    roster.observe("worker.joined", joined(1))
    assert events_of(run.path, "membership.changed") == []
    roster.observe("worker.joined", joined(0))
    workers = events_of(run.path, "membership.changed")[0]["fields"]["workers"]
    assert [worker["pid"] for worker in workers] == [100, 101]


def test_a_worker_of_another_determinism_class_is_a_loud_event(run: Run, roster: Roster) -> None:
    roster.observe("worker.joined", joined(0))
    roster.observe("worker.joined", joined(1, "class-b"))
    differing = events_of(run.path, "node.differs")
    assert [event["fields"]["rank"] for event in differing] == [1]


@pytest.mark.parametrize(
    ("outcomes", "expected"), [(["finished"] * 2, "finished"), (["finished", "interrupted"], "interrupted")]
)
def test_the_outcome_is_what_all_workers_say(roster: Roster, outcomes: list[str], expected: str) -> None:
    for rank, outcome in enumerate(outcomes):
        roster.observe("worker.finished", finished(rank, outcome))
    assert roster.outcome([]) == expected


def test_a_lost_worker_is_recorded_with_its_evidence_and_leaves_the_run_open(run: Run, roster: Roster) -> None:
    roster.observe("worker.joined", joined(0))
    roster.observe("worker.joined", joined(1))
    roster.observe("worker.finished", finished(0))
    assert roster.outcome([Loss(1, True, "ActorDiedError"), Loss(0, False, "exchange broke")]) is None
    lost = events_of(run.path, "worker.lost")
    assert len(lost) == 1
    fields = lost[0]["fields"]
    assert (fields["rank"], fields["pid"], fields["cause"], fields["evidence"]) == (1, 101, "unknown", "ActorDiedError")


def test_an_exception_of_the_users_is_a_failure_and_not_a_loss(roster: Roster) -> None:
    roster.observe("exception", {"rank": 0, "kind": "KeyError", "message": "x"})
    assert roster.outcome([Loss(0, False, "KeyError")]) == "failed"


def test_a_broken_exchange_without_a_death_leaves_the_run_open(roster: Roster) -> None:
    roster.observe("exchange.failed", {"rank": 0, "message": "connection reset"})
    assert roster.outcome([Loss(0, False, "PeerLost")]) is None


@pytest.mark.parametrize("losses", [[], [Loss(0, False, "RuntimeError: DataError")]])
def test_workers_whose_records_do_not_arrive_are_a_failure_that_names_the_folder(
    run: Run, roster: Roster, losses: list[Loss]
) -> None:
    assert roster.outcome(losses) == "failed"
    fields = events_of(run.path, "exception")[0]["fields"]
    assert "recorder.spool" in fields["message"]
    assert fields["traceback"] == "; ".join(loss.evidence for loss in losses)


def test_steps_beyond_the_restart_are_said_to_be_redone(run: Run, roster: Roster) -> None:
    roster.observe("row", {"step": 17, "loss": "NaN"})
    roster.begin_membership(1, 10)
    redone = events_of(run.path, "step.redone")[0]["fields"]
    assert (redone["first"], redone["last"], redone["membership"]) == (11, 17, 1)


def test_nodes_that_come_and_go_are_recorded_once(run: Run, roster: Roster) -> None:
    up = {"a": {"alive": True, "address": "127.0.0.1", "death_reason": 0, "death_message": ""}}
    down = {"a": up["a"] | {"alive": False, "death_reason": 2, "death_message": "health check"}}
    for nodes in (up, up, down, down):
        roster.watch_nodes(nodes)
    assert [event["type"] for event in events_of(run.path, "node.joined", "node.lost")] == ["node.joined", "node.lost"]
    assert events_of(run.path, "node.lost")[0]["fields"]["evidence"]["death_reason"] == 2


def test_a_node_with_other_packages_is_a_loud_event(run: Run, roster: Roster) -> None:
    def environment(version: str) -> dict[str, Any]:
        package = {"name": "torch", "version": version, "origin": None}
        return {"packages": {"packages": [package]}}

    run.observers.append(roster.observe)
    run.event("node.environment", node="a", environment=environment("2.13.0"))
    run.event("node.environment", node="b", environment=environment("2.12.0"))
    differing = events_of(run.path, "node.differs")
    assert [event["fields"]["node"] for event in differing] == ["b"]
    assert "2.12.0" in str(differing[0]["fields"]["differences"])
