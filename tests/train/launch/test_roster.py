"""What the driver concludes from what workers, the coordinator and Ray say."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.commands import events_of
from helpers.launching import formed

from recorder.run import Run
from train.launch.roster import Roster
from train.membership.messages import Stage

ALL = ["rank-0.0", "rank-1.0", "rank-2.0"]
TWO = ["rank-0.0", "rank-2.1"]


def fields_of(run: Run, type: str) -> list[dict[str, Any]]:
    return [event["fields"] for event in events_of(run.path, type)]


def reach(run: Run, roster: Roster, step: int, membership: int = 0) -> None:
    """All steps up to `step` are in the record, half a second each of two workers."""
    if roster.observe not in run.observers:
        run.observers.append(roster.observe)
    workers = [run.worker(f"rank-{rank}", membership, rank, 2) for rank in (8, 9)]
    for worker in workers:
        worker.enter(membership, 2)
        for number in range(roster.last_step + 1, step + 1):
            worker.step(number, loss=1.0, step_seconds=0.5)
        worker.close()
    run.drain()
    assert roster.last_step == step


def recompute(run: Run, membership: int, steps: range) -> None:
    """The members of a membership compute these steps, again half a second each."""
    workers = [run.worker(f"rank-{rank}", membership, rank, 2) for rank in (8, 9)]
    for worker in workers:
        worker.enter(membership, 2)
        for step in steps:
            worker.step(step, loss=1.0, step_seconds=0.5)
        worker.close()
    run.drain()


def test_a_membership_says_who_computes_what_from_which_state(run: Run, roster: Roster) -> None:
    roster.record_membership(formed(0, TWO, 7, source="storage"))
    (changed,) = fields_of(run, "membership.changed")
    assert changed == {
        "membership": 0,
        "start_step": 7,
        "reason": "start",
        "workers": [
            {"rank": 0, "worker": "rank-0.0", "node": "node-a", "pid": 1000, "micro_batches": [0, 3]},
            {"rank": 2, "worker": "rank-2.1", "node": "node-a", "pid": 1021, "micro_batches": [3, 6]},
        ],
        "source": {"kind": "storage", "step": 7},
    }
    assert (roster.membership, roster.members) == (0, set(TWO))


def test_the_most_workers_there_were_are_remembered(roster: Roster) -> None:
    for membership, workers in enumerate((TWO, ALL, TWO)):
        roster.record_membership(formed(membership, workers))
    assert roster.most_workers == 3


def test_a_membership_has_committed_until_the_next_one(roster: Roster) -> None:
    roster.record_membership(formed(0, ALL))
    roster.committed()
    assert roster.has_committed
    roster.record_membership(formed(1, TWO, 4))
    assert not roster.has_committed


@pytest.mark.parametrize("reason", ["worker lost", "stuck", "state differs"])
def test_the_step_that_was_dropped_is_redone_and_no_other(run: Run, roster: Roster, reason: str) -> None:
    roster.record_membership(formed(0, ALL))
    reach(run, roster, 17)
    roster.record_membership(formed(1, TWO, 17, reason))
    assert fields_of(run, "step.redone") == [
        {"first": 18, "last": 18, "membership": 1, "reason": reason, "recorded": 0}
    ]
    assert roster.take_redone() == (0, 0.0)


@pytest.mark.parametrize("reason", ["worker joined", "worker left"])
def test_at_a_step_boundary_nothing_is_redone(run: Run, roster: Roster, reason: str) -> None:
    roster.record_membership(formed(0, ALL))
    roster.record_membership(formed(1, TWO, 17, reason))
    assert fields_of(run, "step.redone") == []


@pytest.mark.parametrize("stage", [Stage.STATE, Stage.EVALUATION, Stage.SAVE])
def test_a_loss_after_the_step_was_committed_drops_no_step(run: Run, roster: Roster, stage: Stage) -> None:
    roster.record_membership(formed(0, ALL))
    reach(run, roster, 17)
    roster.record_membership(formed(1, TWO, 17, "worker lost", stage=stage))
    assert fields_of(run, "step.redone") == []


def test_committed_steps_are_redone_after_a_return(run: Run, roster: Roster) -> None:
    roster.record_membership(formed(0, ALL))
    reach(run, roster, 17)
    roster.goes_back_to(10)
    roster.record_membership(formed(1, TWO, 10, "worker lost", "memory"))
    assert fields_of(run, "step.redone") == [
        {"first": 11, "last": 17, "membership": 1, "reason": "worker lost", "recorded": 7}
    ]
    assert [roster.take_redone(), roster.take_redone()] == [(7, 7 * 2 * 0.5), (0, 0.0)]
    roster.record_membership(formed(2, TWO, 17, "worker lost"))
    assert fields_of(run, "step.redone")[1]["recorded"] == 0


def test_what_two_returns_in_a_row_cost_is_counted_once(run: Run, roster: Roster) -> None:
    """From 100 back to 75, and from 80 back to 75: the second time five steps were there. Then deeper, to 60."""
    roster.record_membership(formed(0, ALL))
    reach(run, roster, 100)
    costs = []
    for membership, to, reached in ((1, 75, 80), (2, 75, 80), (3, 60, 60)):
        roster.goes_back_to(to)
        roster.record_membership(formed(membership, TWO, to, "worker lost", "memory"))
        costs.append(roster.take_redone())
        if reached > to:
            recompute(run, membership, range(to + 1, reached + 1))
    assert costs == [(25, 25.0), (5, 5.0), (20, 20.0)]
    redone = [(fields["first"], fields["last"], fields["recorded"]) for fields in fields_of(run, "step.redone")]
    assert redone == [(76, 100, 25), (76, 80, 5), (61, 80, 20)]
    assert roster.totals()["last_step"] == 100


def test_a_row_of_before_a_return_that_is_completed_after_it_does_not_count(roster: Roster) -> None:
    roster.record_membership(formed(0, ALL))
    roster.goes_back_to(75)
    roster.record_membership(formed(1, TWO, 75, "worker lost", "memory"))
    roster.observe("row", {"step": 100, "membership": 0, "step_seconds": 0.5, "worker_rank": [0, 1]})
    roster.observe("row", {"step": 76, "membership": 1, "step_seconds": 0.5, "worker_rank": [0, 1]})
    roster.goes_back_to(75)
    roster.record_membership(formed(2, TWO, 75, "worker lost", "memory"))
    assert roster.take_redone() == (1, 1.0)


def test_what_is_still_in_a_spool_counts_among_the_steps_that_are_redone(run: Run, roster: Roster) -> None:
    run.observers.append(roster.observe)
    roster.record_membership(formed(0, ALL))
    worker = run.worker()
    for step in (1, 2, 3):
        worker.step(step, loss=1.0)
    roster.goes_back_to(0)
    roster.record_membership(formed(1, TWO, 0, "worker lost", "start"))
    assert [(redone["first"], redone["recorded"]) for redone in fields_of(run, "step.redone")] == [(1, 3)]


def test_after_the_last_step_there_is_none_to_redo(run: Run, roster: Roster) -> None:
    """Nor after one at which a stop was requested: only the end is agreed on again."""
    roster.record_membership(formed(0, ALL))
    reach(run, roster, 90)
    roster.record_membership(formed(1, TWO, 90, "worker lost", stopping=True))
    reach(run, roster, 100, 1)
    roster.record_membership(formed(2, TWO, 100, "worker lost"))
    assert fields_of(run, "step.redone") == []


def test_a_resumed_attempt_redoes_nothing_at_its_start(run: Run, roster: Roster) -> None:
    roster.goes_back_to(50)
    roster.record_membership(formed(0, ALL, 50, source="storage"))
    assert fields_of(run, "step.redone") == []


def joined(rank: int, determinism: str = "class-a") -> dict[str, Any]:
    return {"rank": rank, "node": "n", "pid": 100 + rank, "micro_batches": [0, 4], "determinism": determinism}


def test_a_worker_of_another_determinism_class_is_a_loud_event(run: Run, roster: Roster) -> None:
    roster.observe("worker.joined", joined(0))
    roster.observe("worker.joined", joined(1, "class-b"))
    assert [differs["rank"] for differs in fields_of(run, "node.differs")] == [1]


def test_what_workers_say_of_the_run_is_kept_for_its_end(roster: Roster) -> None:
    roster.observe("row", {"step": 3, "loss": 0.5})
    roster.observe("row", {"step": 2, "loss": "NaN"})
    roster.observe("evaluated", {"step": 3, "loss": 0.25})
    roster.observe("exception", {"kind": "KeyError"})
    roster.observe("of a type nobody knows", {})
    assert (roster.last_step, roster.evaluation, roster.exceptions) == (
        3,
        {"step": 3, "loss": 0.25},
        [{"kind": "KeyError"}],
    )
    roster.lost += 2
    assert roster.totals() == {"workers_lost": 2, "last_step": 3}


UP = {"alive": True, "address": "127.0.0.1", "death_reason": 0, "death_message": ""}


@pytest.mark.parametrize(("death_reason", "cause"), [(1, "node lost"), (2, "node lost"), (3, "preempted")])
def test_nodes_that_come_and_go_are_recorded_once(run: Run, roster: Roster, death_reason: int, cause: str) -> None:
    down = {"alive": False, "death_reason": death_reason, "death_message": "health check"}
    for state in (UP, UP, UP | down, UP | down):
        roster.watch_nodes({"a": state})
    assert [event["type"] for event in events_of(run.path, "node.joined", "node.lost")] == ["node.joined", "node.lost"]
    (lost,) = fields_of(run, "node.lost")
    assert (lost["cause"], lost["evidence"]) == (cause, down)
    assert roster.dead_nodes == {"a": down}


def test_a_node_that_was_dead_before_the_run_is_no_loss(run: Run, roster: Roster) -> None:
    roster.watch_nodes({"a": UP | {"alive": False}, "b": UP})
    assert fields_of(run, "node.lost") == []
    assert [node["node"] for node in fields_of(run, "node.joined")] == ["b"]


def test_that_a_node_drains_is_new_once(run: Run, roster: Roster) -> None:
    assert [roster.node_drains("a", 1.5), roster.node_drains("a", 2.5), roster.node_drains("b", None)] == [
        True,
        False,
        True,
    ]
    assert [(drain["node"], drain["deadline"]) for drain in fields_of(run, "node.draining")] == [
        ("a", "1970-01-01T00:00:01.500000Z"),
        ("b", None),
    ]


def test_a_node_with_other_packages_is_a_loud_event(run: Run, roster: Roster) -> None:
    def environment(version: str) -> dict[str, Any]:
        package = {"name": "torch", "version": version, "origin": None}
        return {"packages": {"packages": [package]}}

    run.observers.append(roster.observe)
    run.event("node.environment", node="a", environment=environment("2.13.0"))
    run.event("node.environment", node="b", environment=environment("2.12.0"))
    (differing,) = fields_of(run, "node.differs")
    assert differing["node"] == "b"
    assert "2.12.0" in str(differing["differences"])
