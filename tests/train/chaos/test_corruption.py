"""One bit flips in one worker's memory: it is found, the worker is expelled, and the bits are those of the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chaos_checks import facts
from chaos_faults import Fault
from chaos_run import Played, Stage
from chaos_schedule import Schedule
from fork_launcher import ForkServer

from recorder.bundle import layout
from recorder.bundle.committed import commit
from recorder.bundle.rows import read_rows
from recorder.bundle.verify import verify_bundle
from recorder.ledger import events

_NODES = ("node-a", "node-b", "node-c")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    server = ForkServer()
    yield Stage(tmp_path_factory.mktemp("corruption"), server)
    server.close()


def committed_bits(played: Played) -> list[tuple[str, ...]]:
    names = ("step", "loss", "grad_norm", "gradient_digest", "fingerprint")
    return [
        tuple(repr(row[name]) for name in names) for row in commit(list(read_rows(played.path, layout.METRICS))).rows
    ]


def assert_healed(played: Played, undisturbed: Played, cause: str) -> None:
    """The record tells of it and is sound, and steps and final state are as if nothing had happened."""
    assert played.outcome == "finished"
    assert [(lost["rank"], lost["cause"]) for lost in facts(played.path, events.WORKER_LOST)] == [(1, cause)]
    assert committed_bits(played) == committed_bits(undisturbed)
    last = layout.checkpoint_folder(12)
    for name in (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_OPTIMIZER, layout.CHECKPOINT_STATE):
        assert (played.path / last / name).read_bytes() == (undisturbed.path / last / name).read_bytes()
    assert not verify_bundle(played.path).findings


def test_a_wrong_sum_is_dropped_before_it_is_applied(stage: Stage) -> None:
    plan = Schedule(0, 12, 6, _NODES, faults=(Fault(1, 0, "summed", 3, "flip"),))
    played = stage.play(plan)
    [difference] = facts(played.path, events.STATE_DIFFERS)
    assert (difference["subject"], difference["expelled"]) == ("sum", [1])
    assert difference["digests"]["0"] == difference["digests"]["2"] != difference["digests"]["1"]
    assert facts(played.path, events.CHECKPOINT_RESTORED) == []
    assert [(redone["first"], redone["recorded"]) for redone in facts(played.path, events.STEP_REDONE)] == [(3, 0)]
    assert_healed(played, stage.play(plan.undisturbed), "expelled: sum differs")


@pytest.mark.parametrize(("memory_every", "source"), [(4, "memory"), (0, "storage")])
def test_a_wrong_state_takes_all_back_to_the_last_that_was_agreed_on(
    stage: Stage, memory_every: int, source: str
) -> None:
    """What the wrong worker has added to the sums since then is in all of them, so those steps are done again."""
    plan = Schedule(0, 12, 6, _NODES, 1, memory_every, 4, faults=(Fault(1, 0, "updated", 6, "flip"),))
    played = stage.play(plan)
    [difference] = facts(played.path, events.STATE_DIFFERS)
    assert (difference["subject"], difference["step"], difference["expelled"]) == ("state", 8, [1])
    [restored] = facts(played.path, events.CHECKPOINT_RESTORED)
    assert (restored["source"], restored["step"]) == (source, 4)
    survivors = [
        {worker["pid"] for worker in changed["workers"] if worker["rank"] != 1}
        for changed in facts(played.path, events.MEMBERSHIP_CHANGED)
    ]
    assert all(pids == survivors[0] for pids in survivors)
    assert_healed(played, stage.play(plan.undisturbed), "expelled: state differs")


def test_a_state_that_a_joiner_receives_broken_is_sent_again(stage: Stage) -> None:
    killed, flipped = Fault(1, 0, "forward", 4), Fault(1, 1, "tensor received", 2, "flip")
    plan = Schedule(0, 12, 6, _NODES[:2], 2, faults=(killed, flipped))
    assert_taken_over_whole(plan, stage, "came with fingerprint")


def test_a_snapshot_that_gives_a_broken_state_is_done_without(stage: Stage) -> None:
    """The other worker of the node has restored it well, so nobody needs to look further."""
    killed, flipped = Fault(1, 0, "forward", 26, scope="all"), Fault(0, 1, "restored", 1, "flip")
    plan = Schedule(0, 12, 6, ("node-a", "node-a"), 2, 1, 1000, faults=(killed, flipped))
    played = assert_taken_over_whole(plan, stage, "the snapshot in node memory is not used")
    assert {restored["source"] for restored in facts(played.path, events.CHECKPOINT_RESTORED)} == {"memory"}


def assert_taken_over_whole(plan: Schedule, stage: Stage, words: str) -> Played:
    """It is found out and recorded, nobody is lost by it, and the bits are as if nothing had happened."""
    played = stage.play(plan)
    assert played.outcome == "finished"
    assert {struck["point"] for struck in played.folder.struck()} == {fault.point for fault in plan.faults}
    assert any(words in failed["message"] for failed in facts(played.path, events.EXCHANGE_FAILED))
    hit = {worker for struck in played.folder.struck() for worker in struck["victims"]}
    assert {lost["worker"] for lost in facts(played.path, events.WORKER_LOST)} == hit
    assert committed_bits(played) == committed_bits(stage.play(plan.undisturbed))
    assert not verify_bundle(played.path).findings
    return played


@pytest.mark.parametrize(("point", "subject"), [("summed", "sum"), ("updated", "state")])
def test_two_that_differ_stop_and_say_so(stage: Stage, point: str, subject: str) -> None:
    plan = Schedule(0, 12, 6, _NODES[:2], 1, 4, faults=(Fault(1, 0, point, 6, "flip"),))
    played = stage.play(plan)
    assert played.outcome == "failed"
    [difference] = facts(played.path, events.STATE_DIFFERS)
    assert (difference["subject"], difference["expelled"]) == (subject, [])
    [exception] = facts(played.path, events.EXCEPTION)
    assert "no majority" in exception["message"]
    # The record is sound; what is wrong is what it tells.
    assert {finding.kind for finding in verify_bundle(played.path).findings} <= {"steps"}
