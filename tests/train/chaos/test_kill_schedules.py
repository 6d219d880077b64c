"""Fifty schedules of kills, over every moment of a worker's life: the bits and the record stand against all of them.

`make chaos N=300` plays more of them, and `make chaos SEED=7` one alone; see `chaos.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from chaos_checks import check, facts
from chaos_faults import POINTS, Fault
from chaos_run import Stage, train_alone
from chaos_schedule import Schedule, schedule
from fork_launcher import ForkServer

from recorder.bundle import layout
from recorder.bundle.rows import read_rows
from recorder.ledger import events

SEEDS = range(50)


class Theatre:
    """The stage, and the undisturbed runs that have been played on it."""

    def __init__(self, stage: Stage) -> None:
        self.play = stage.play
        self.undisturbed = cache(stage.play)


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    server = ForkServer()
    yield Theatre(Stage(tmp_path_factory.mktemp("chaos"), server))
    server.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_bits_and_record_are_those_of_an_undisturbed_run(theatre: Theatre, seed: int) -> None:
    plan = schedule(seed)
    played = theatre.play(plan)
    check(plan, played, theatre.undisturbed(plan.undisturbed))
    first = plan.faults[0]
    assert (first.rank, first.point) in {(struck["rank"], struck["point"]) for struck in played.folder.struck()}


def test_the_undisturbed_run_is_what_training_computes(theatre: Theatre) -> None:
    """The yardstick itself: without workers, memberships or processes the same bits come out."""
    plan = Schedule(0, 10, 4, ("node-a",))
    played = theatre.undisturbed(plan)
    rows = [
        (row["step"], repr(row["loss"]), row["gradient_digest"], row["fingerprint"])
        for row in read_rows(played.path, layout.METRICS)
    ]
    assert rows == train_alone(played)


def test_fifty_schedules_reach_every_point() -> None:
    faults = [fault for seed in SEEDS for fault in schedule(seed).faults]
    assert {fault.point for fault in faults} == POINTS.keys()
    assert {fault.signal for fault in faults} == {"SIGKILL", "SIGSTOP"}
    assert {fault.scope for fault in faults} == {"worker", "node", "all"}
    assert any(len(schedule(seed).faults) > 2 for seed in SEEDS)


def test_a_schedule_is_a_function_of_its_seed() -> None:
    assert [schedule(seed) for seed in SEEDS] == [schedule(seed) for seed in SEEDS]


@pytest.mark.parametrize(
    ("memory_every", "checkpoint_every", "source"), [(1, 1000, "memory"), (0, 2, "storage"), (0, 1000, "start")]
)
def test_where_nobody_survives_the_newest_state_at_hand_is_taken(
    theatre: Theatre, memory_every: int, checkpoint_every: int, source: str
) -> None:
    killed = Fault(rank=1, incarnation=0, point="forward", call=14, scope="all")
    plan = Schedule(0, 10, 4, ("node-a", "node-b"), 1, memory_every, checkpoint_every, faults=(killed,))
    played = theatre.play(plan)
    check(plan, played, theatre.undisturbed(plan.undisturbed))
    sources = [changed["source"]["kind"] for changed in facts(played.path, events.MEMBERSHIP_CHANGED)]
    assert sources == ["start", source]


def test_what_a_lost_node_had_in_memory_is_not_used(theatre: Theatre) -> None:
    """It lies where it was: only its name says that it is of a node that is gone."""
    killed = Fault(rank=1, incarnation=0, point="forward", call=14, scope="node")
    plan = Schedule(0, 10, 4, ("node-a", "node-a"), 1, 1, 1000, faults=(killed,))
    played = theatre.play(plan)
    check(plan, played, theatre.undisturbed(plan.undisturbed))
    sources = [changed["source"]["kind"] for changed in facts(played.path, events.MEMBERSHIP_CHANGED)]
    assert sources == ["start", "start"]
    saved = {fields["node"] for fields in facts(played.path, events.SNAPSHOT_SAVED)}
    assert saved == {"node-a", "node-a-again"}


def test_a_state_that_came_in_part_is_not_begun_with(theatre: Theatre) -> None:
    """Who gives the state dies while giving it, and nobody else has one: who has a part of it begins at step 0."""
    killed = (Fault(1, 0, "forward", 4), Fault(0, 0, "send", 12))
    plan = Schedule(0, 10, 4, ("node-a", "node-b"), min_workers=2, faults=killed)
    played = theatre.play(plan)
    check(plan, played, theatre.undisturbed(plan.undisturbed))
    sources = [changed["source"]["kind"] for changed in facts(played.path, events.MEMBERSHIP_CHANGED)]
    assert sources == ["start", "live", "start"]
