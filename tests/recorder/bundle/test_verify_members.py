"""Every worker is accounted for and every micro-batch has its worker, in records that are consistent in all else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import RunBuilder
from helpers.recovery import RecoveryBuilder
from helpers.tampering import reseal, rewrite_ledger, rewrite_metrics

from recorder.bundle.verify import verify_bundle
from recorder.ledger import events

Copy = Callable[[str], Path]
Event = dict[str, Any]


def found(path: Path) -> list[tuple[str, str]]:
    return [(finding.kind, finding.reason) for finding in verify_bundle(path).findings]


def of_worker(event: Event, kind: str, worker: str) -> bool:
    return event["type"] == kind and event["fields"].get("worker") == worker


def drop(path: Path, kind: str, worker: str) -> None:
    rewrite_ledger(path, lambda event: [] if of_worker(event, kind, worker) else [event])
    reseal(path)


def edit(path: Path, kind: str, change: Callable[[Event], Any]) -> None:
    """Change the fields of every event of a type."""

    def replace(event: Event) -> list[Event]:
        if event["type"] == kind:
            change(event["fields"])
        return [event]

    rewrite_ledger(path, replace)
    reseal(path)


def edit_membership(path: Path, number: int, change: Callable[[list[Event]], Any]) -> None:
    edit(path, events.MEMBERSHIP_CHANGED, lambda f: change(f["workers"]) if f["membership"] == number else None)


@pytest.mark.parametrize("kind", ["recovered", "lost_node"])
def test_a_run_that_recovered_in_place_is_consistent(made: dict[str, Path], kind: str) -> None:
    report = verify_bundle(made[kind])
    assert (report.findings, report.notes) == ((), ())


@pytest.mark.parametrize(
    ("kind", "worker", "reason"),
    [
        (events.WORKER_FINISHED, "rank-0.0", "rank-0.0 of attempt 1 neither finished nor drained nor was lost"),
        (events.WORKER_DRAINED, "rank-2.0", "rank-2.0 of attempt 1 neither finished nor drained nor was lost"),
        (events.WORKER_LOST, "rank-1.0", "rank-1.0 of attempt 1 neither finished nor drained nor was lost"),
    ],
)
def test_a_worker_whose_end_is_not_recorded_is_found(copy_of: Copy, kind: str, worker: str, reason: str) -> None:
    path = copy_of("recovered")
    drop(path, kind, worker)
    assert found(path) == [("worker", reason)]


def test_a_worker_that_ended_twice_is_found(copy_of: Copy) -> None:
    path = copy_of("recovered")

    def twice(event: Event) -> list[Event]:
        return [event, event] if of_worker(event, events.WORKER_LOST, "rank-1.0") else [event]

    rewrite_ledger(path, twice)
    reseal(path)
    assert found(path) == [("worker", "rank-1.0 of attempt 1 ended more than once: lost, lost")]


@pytest.mark.parametrize(
    ("last_step", "problems", "notes"),
    [
        (24, [], ["rank-0.0 of attempt 1 was lost after it had finished, before it could say so"]),
        (23, [("worker", "rank-0.0 of attempt 1 ended more than once: finished, lost")], []),
    ],
)
def test_a_worker_killed_after_its_last_record_is_a_note(
    copy_of: Copy, last_step: int, problems: list[tuple[str, str]], notes: list[str]
) -> None:
    def killed(event: Event) -> list[Event]:
        if not of_worker(event, events.WORKER_FINISHED, "rank-0.0"):
            return [event]
        lost = {"rank": 0, "worker": "rank-0.0", "membership": 3, "last_step": last_step, "cause": "signal SIGKILL"}
        return [event, {"time": event["time"], "attempt": 1, "type": events.WORKER_LOST, "fields": lost}]

    path = copy_of("recovered")
    rewrite_ledger(path, killed)
    reseal(path)
    assert found(path) == problems
    assert list(verify_bundle(path).notes) == notes


def test_an_expelled_worker_that_was_not_lost_is_found(copy_of: Copy) -> None:
    path = copy_of("lost_node")
    edit(path, events.WORKER_EXPELLED, lambda fields: fields.update(rank=0, worker="rank-0.0"))
    assert found(path) == [("worker", "rank-0.0 of attempt 1 was expelled, and no event says that it was lost")]


def test_a_worker_that_comes_back_is_found(copy_of: Copy) -> None:
    path = copy_of("recovered")
    for number in (2, 3):
        edit_membership(path, number, lambda workers: workers[1].update(worker="rank-1.0"))
    reasons = [reason for _, reason in found(path)]
    assert reasons[0] == "rank-1.0 of attempt 1 is in membership 2, and was not in the one before"


def test_a_loss_in_another_membership_is_found(copy_of: Copy) -> None:
    path = copy_of("recovered")
    edit(path, events.WORKER_LOST, lambda fields: fields.update(membership=2))
    problem = "was lost in membership 2, and membership 0 is the last it was in"
    assert found(path) == [("worker", f"rank-1.0 of attempt 1 {problem}")]


def test_a_worker_that_left_after_the_others_went_on_is_found(copy_of: Copy) -> None:
    path = copy_of("recovered")
    edit(path, events.WORKER_DRAINED, lambda fields: fields.update(step=20))
    problem = "drained at step 20, and is missing from membership 3, which begins before it"
    assert found(path) == [("worker", f"rank-2.0 of attempt 1 {problem}")]


@pytest.mark.parametrize("outcome", ["failed", "interrupted"])
def test_in_an_attempt_that_did_not_finish_the_driver_ended_the_workers(tmp_path: Path, outcome: str) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b").steps(1, 4)
    builder.ranks[0].step(5, 0, 2, {"loss": 1.0, "step_seconds": 0.5})
    report = verify_bundle(builder.close(outcome))
    assert report.findings == ()
    assert report.notes == (f"attempt 1 {outcome}: how rank-0.0, rank-1.0 ended is not recorded",)


def test_a_killed_attempt_and_its_resume_are_consistent(tmp_path: Path) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b").steps(1, 4).checkpoint(4)
    builder.steps(5, 6).kill()
    assert found(builder.path) == []
    builder.step = 4
    builder.resume().restored(4).start("node-a", "node-b", kind="storage").steps(5, 8).checkpoint(8)
    report = verify_bundle(builder.finish().close())
    assert report.findings == ()
    assert "attempt 1 killed: how rank-0.0, rank-1.0 ended is not recorded" in report.notes


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda w: w[2].update(micro_batches=[4, 5]), "its micro-batches end before 5, the config has 6"),
        (lambda w: w[2].update(micro_batches=[4, 7]), "its micro-batches end before 7, the config has 6"),
        (lambda w: w[1].update(micro_batches=[3, 4]), "rank 1 has micro-batches 3 to 3, and 2 would be the next"),
        (lambda w: w[1].update(micro_batches=[1, 4]), "rank 1 has micro-batches 1 to 3, and 2 would be the next"),
        (lambda w: w[0].update(micro_batches=[1, 2]), "rank 0 has micro-batches 1 to 1, and 0 would be the next"),
        (lambda w: w[0].update(rank=1, worker="rank-1.x"), "a rank is in it twice"),
        (lambda w: w[0].update(worker="rank-1.0"), "a worker is in it twice"),
        (lambda w: w[0].pop("micro_batches"), "rank 0 has no name or no micro-batches"),
        (lambda w: w[0].pop("worker"), "rank 0 has no name or no micro-batches"),
    ],
)
def test_micro_batches_that_are_not_divided_over_the_ranks_are_found(
    copy_of: Copy, change: Callable[[list[Event]], Any], problem: str
) -> None:
    path = copy_of("recovered")
    edit_membership(path, 0, change)
    assert ("membership", f"membership 0 of attempt 1: {problem}") in found(path)


def test_micro_batches_follow_the_order_of_the_ranks(copy_of: Copy) -> None:
    path = copy_of("recovered")
    edit_membership(path, 0, lambda workers: workers.reverse())
    assert found(path) == []

    def swap(workers: list[Event]) -> None:
        first, second = workers[:2]
        first["micro_batches"], second["micro_batches"] = second["micro_batches"], first["micro_batches"]

    edit_membership(path, 0, swap)
    assert [kind for kind, _ in found(path)] == ["membership"]


def test_rows_of_a_membership_that_is_not_recorded_are_found(copy_of: Copy) -> None:
    path = copy_of("recovered")

    def without(event: Event) -> list[Event]:
        return [] if event["type"] == events.MEMBERSHIP_CHANGED and event["fields"]["membership"] == 1 else [event]

    rewrite_ledger(path, without)
    reseal(path)
    problem = "no event says who was in this membership"
    assert found(path) == [("membership", f"steps 7 to 8 of attempt 1, membership 1: {problem}")]


def test_rows_without_any_membership_are_found_where_workers_have_names(copy_of: Copy) -> None:
    path = copy_of("lost_node")
    rewrite_ledger(path, lambda event: [] if event["type"] == events.MEMBERSHIP_CHANGED else [event])
    reseal(path)
    assert {reason.split(": ")[1] for kind, reason in found(path) if kind == "membership"} == {
        "no event says who was in this membership"
    }


def test_a_driver_may_end_before_it_records_the_newest_membership(tmp_path: Path) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b").steps(1, 4)
    builder.membership += 1
    path = builder.steps(5, 6).kill()
    report = verify_bundle(path)
    assert report.findings == ()
    assert any("steps 5 to 6 of attempt 1, membership 1: its driver ended before" in note for note in report.notes)


def test_a_membership_recorded_twice_is_found(copy_of: Copy) -> None:
    path = copy_of("recovered")

    def twice(event: Event) -> list[Event]:
        return [event, event] if event["type"] == events.MEMBERSHIP_CHANGED else [event]

    rewrite_ledger(path, twice)
    reseal(path)
    problems = [f"membership {number} of attempt 1 is recorded more than once" for number in range(4)]
    assert found(path) == [("membership", problem) for problem in problems]


@pytest.mark.parametrize(
    ("ranks", "problem"),
    [
        ([0, 1], "step 3 of attempt 1, membership 0: no part of rank 2, which was not lost"),
        ([1, 2], "step 3 of attempt 1, membership 0: no part of rank 0, which was not lost"),
        ([], "step 3 of attempt 1, membership 0: no part of rank 0, which was not lost"),
        (
            [0, 1, 2, 7],
            "steps 1 to 6 of attempt 1, membership 0: rank 7 has a part in them, and is not in this membership",
        ),
    ],
)
def test_a_row_that_is_not_of_all_its_workers_is_found(copy_of: Copy, ranks: list[int], problem: str) -> None:
    path = copy_of("recovered")
    rewrite_metrics(path, lambda row: row.update(worker_rank=ranks) if row["step"] == 3 else None)
    reseal(path)
    assert ("membership", problem) in found(path)


def test_the_part_of_a_worker_that_was_lost_may_be_missing(tmp_path: Path) -> None:
    def path(run_id: str, lost: int) -> Path:
        builder = RecoveryBuilder(tmp_path / "runs", run_id).create().start("node-a", "node-b").steps(1, 4)
        builder.ranks[0].step(5, 0, 2, {"loss": 1.0, "step_seconds": 0.5})
        builder.step = 5
        return builder.lose(lost).steps(6, 8).finish().close()

    assert found(path("a", 1)) == []
    reasons = [reason for _, reason in found(path("b", 0))]
    assert reasons == ["step 5 of attempt 1, membership 0: no part of rank 1, which was not lost"]


def test_a_part_that_came_late_is_not_missing(tmp_path: Path) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b").steps(1, 4)
    values = {"loss": 1.0, "step_seconds": 0.5}
    builder.ranks[0].step(5, 0, 2, values)
    builder.run.drain()
    builder.run.writer.collector.flush()
    builder.ranks[1].step(5, 0, 2, values)
    builder.step = 5
    assert found(builder.steps(6, 8).finish().close()) == []


def test_nothing_is_asked_of_records_whose_workers_have_no_names(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 4).lose(1).lose(1)
    assert found(builder.join(membership=3).steps(5, 6).close()) == []


def test_a_state_from_a_nodes_memory_has_no_path(tmp_path: Path) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b").steps(1, 4).snapshot()
    builder.kill()
    builder.resume().restored_from_memory(4).start("node-a", "node-b", kind="memory").steps(5, 6)
    assert found(builder.finish().close()) == []
