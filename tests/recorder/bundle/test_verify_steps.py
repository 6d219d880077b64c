"""Every committed step is there once, continues from a recorded state, and has equal bits wherever it was redone."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.bundles import RunBuilder, killed_builder
from helpers.records import config_with

from recorder.bundle.verify import verify_bundle
from recorder.ledger import events


@pytest.fixture
def builder(tmp_path: Path) -> RunBuilder:
    return RunBuilder(tmp_path / "runs").create().join()


def wrong_steps(path: Path) -> list[str]:
    report = verify_bundle(path)
    assert {finding.kind for finding in report.findings} <= {"steps"}, report.findings
    return [finding.reason for finding in report.findings]


def test_a_step_that_is_missing_is_found(builder: RunBuilder) -> None:
    reasons = wrong_steps(builder.steps(1, 4).steps(7, 9).close())
    assert reasons == ["no row of steps 5 to 6 before or in attempt 1, membership 0"]


def test_a_run_that_does_not_begin_at_the_beginning_is_found(builder: RunBuilder) -> None:
    assert wrong_steps(builder.steps(3, 4).close()) == ["no row of steps 1 to 2 before or in attempt 1, membership 0"]


def test_rows_may_come_in_any_order(builder: RunBuilder) -> None:
    assert wrong_steps(builder.steps(2, 4).steps(1, 1).close()) == []


def test_a_fork_begins_where_its_parent_was(tmp_path: Path) -> None:
    forked = RunBuilder(tmp_path / "runs", parent={"run": "parent", "step": 7}).create().restored(7).join()
    assert wrong_steps(forked.steps(8, 9).close()) == []
    elsewhere = RunBuilder(tmp_path / "runs", "demo-2", parent={"run": "parent", "step": 7}).create().restored(5).join()
    assert wrong_steps(elsewhere.steps(6, 9).close()) == []
    unrestored = RunBuilder(tmp_path / "runs", "demo-3", parent={"run": "parent", "step": 7}).create().join()
    assert len(wrong_steps(unrestored.steps(6, 9).close())) == 1


def test_a_further_attempt_goes_on_from_what_was_restored(tmp_path: Path) -> None:
    for run_id, restored, first, fine in (
        ("a", 5, 6, True),
        ("b", 5, 7, False),
        ("c", None, 6, False),
        ("d", None, 1, True),
    ):
        builder = killed_builder(tmp_path / "runs", run_id).resume()
        if restored is not None:
            builder.restored(restored)
        reasons = wrong_steps(builder.join().steps(first, 12).close())
        assert (reasons == []) is fine, (run_id, reasons)


def test_a_relaunch_in_the_same_attempt_may_go_back_and_not_ahead(tmp_path: Path) -> None:
    for run_id, first, fine in (("back", 4, True), ("on", 7, True), ("ahead", 8, False)):
        builder = RunBuilder(tmp_path / "runs", run_id).create().join().steps(1, 6)
        builder.lose(1).restored(3).join(membership=1)
        assert (wrong_steps(builder.steps(first, 9).close()) == []) is fine


def test_steps_lost_with_a_spool_are_a_note_where_the_gap_is_stated(tmp_path: Path) -> None:
    builder = killed_builder(tmp_path / "runs")
    builder.run.spool_folder.rename(tmp_path / "gone")
    path = builder.resume().restored(8).join().steps(9, 12).close()
    assert wrong_steps(path) == []
    assert any("steps 7 to 8" in note for note in verify_bundle(path).notes)


@pytest.mark.parametrize("column", ["loss", "gradient_digest", "fingerprint"])
def test_a_step_redone_with_other_bits_is_found(tmp_path: Path, column: str) -> None:
    builder = killed_builder(tmp_path / "runs").resume().restored(5).join()
    changed = 1.25 if column == "loss" else "0" * 16
    reasons = wrong_steps(builder.steps(6, 6, **{column: changed}).steps(7, 12).close())
    assert reasons == [f"step 6 was recorded twice (attempts 1 and 2) with different {column}"]


def test_redone_steps_with_equal_bits_are_a_note(made: dict[str, Path]) -> None:
    assert "3 steps were recorded more than once, with equal results" in verify_bundle(made["resumed"]).notes


def test_a_zero_of_the_other_sign_is_another_result(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 2, loss=0.0)
    path = builder.lose(0).join(membership=1).steps(2, 3, loss=-0.0).close()
    assert wrong_steps(path) == ["step 2 was recorded twice (attempts 1 and 1) with different loss"]


def test_not_a_number_equals_itself(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 2, loss=float("nan"))
    assert wrong_steps(builder.lose(0).join(membership=1).steps(2, 3, loss=float("nan")).close()) == []


def test_where_no_equal_bits_were_promised_it_is_a_note(tmp_path: Path) -> None:
    config = config_with(train__reduction="native")
    builder = killed_builder(tmp_path / "runs", config=config).resume().restored(5).join()
    path = builder.steps(6, 12, loss=1.25).close()
    assert wrong_steps(path) == []
    assert any("native" in note for note in verify_bundle(path).notes)


def test_after_a_change_of_config_redone_steps_are_not_compared(tmp_path: Path) -> None:
    longer = config_with(train__steps=20)
    builder = killed_builder(tmp_path / "runs").resume(longer).restored(5).join()
    path = builder.steps(6, 12, loss=1.25).close()
    assert wrong_steps(path) == []
    assert any("different config" in note for note in verify_bundle(path).notes)


def test_after_a_change_of_machine_redone_steps_are_not_compared(tmp_path: Path) -> None:
    builder = killed_builder(tmp_path / "runs").resume().restored(5).join(determinism="f" * 16)
    assert wrong_steps(builder.steps(6, 12, loss=1.25).close()) == []


def test_workers_that_disagree_are_found(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 2)
    builder.ranks[0].step(3, loss=1.0, step_seconds=0.1)
    builder.ranks[1].step(3, loss=2.0, step_seconds=0.1)
    for rank, worker in enumerate(builder.ranks):
        worker.event(events.WORKER_FINISHED, rank=rank, outcome="finished", step=3, fingerprint=str(rank) * 16)
    assert wrong_steps(builder.close()) == [
        "workers disagreed about step 3: loss",
        "workers of attempt 1 ended step 3 in 2 different states",
    ]
