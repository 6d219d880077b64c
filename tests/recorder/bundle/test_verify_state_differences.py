"""Rows from a time in which the workers' states differed are kept, and not held against those that superseded them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.recovery import RecoveryBuilder
from helpers.tampering import rechain_ledger, reseal

from recorder.bundle.verify import verify_bundle
from recorder.ledger import events

Copy = Callable[[str], Path]

STATED = "the workers' states differed at step 8 of attempt 1; ranks expelled: 1"
VOID = "4 rows recorded while the workers' states differed are superseded and were not compared"


def unequal(path: Path) -> list[str]:
    return [finding.reason.partition(" (")[0] for finding in verify_bundle(path).findings]


def edit(path: Path, kind: str, **fields: Any) -> None:
    rechain_ledger(path, lambda event: event["fields"].update(fields) if event["type"] == kind else None)
    reseal(path)


def test_they_are_a_note(made: dict[str, Path]) -> None:
    report = verify_bundle(made["differed"])
    assert report.findings == ()
    assert set(report.notes) == {STATED, VOID}


def test_other_rows_are_compared(copy_of: Copy) -> None:
    for kind, fields, found in (
        (events.STEP_REDONE, {"first": 6}, [5]),
        (events.STEP_REDONE, {"last": 6}, [7, 8]),
        (events.STEP_REDONE, {"membership": 0}, [5, 6, 7, 8]),
        (events.STATE_DIFFERS, {"subject": "sum"}, [5, 6, 7, 8]),
    ):
        path = copy_of("differed")
        edit(path, kind, **fields)
        assert unequal(path) == [f"step {step} was recorded twice" for step in found]


def test_a_difference_in_a_sum_drops_a_step_before_it_is_recorded(tmp_path: Path) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b", "node-c").steps(1, 4)
    builder.run.event(events.STATE_DIFFERS, step=5, subject="sum", digests={}, expelled=[1], membership=0)
    report = verify_bundle(builder.lose(1, expelled="sum differs").steps(5, 8).finish().close())
    assert (report.findings, report.notes) == ((), ())


def test_an_attempt_that_was_killed_before_it_could_go_back(tmp_path: Path) -> None:
    builder = RecoveryBuilder(tmp_path / "runs").create().start("node-a", "node-b", "node-c")
    builder.steps(1, 4).checkpoint(4).steps(5, 8, loss=9.5).differ(1, agreed=4, redone=False).kill()
    builder.resume().restored(4).start("node-a", "node-b", kind="storage").steps(5, 10)
    path = builder.finish().close()
    assert unequal(path) == []
    assert {STATED, VOID} <= set(verify_bundle(path).notes)
    edit(path, events.MEMBERSHIP_CHANGED, start_step=6)
    assert unequal(path) == ["step 5 was recorded twice", "step 6 was recorded twice"]


def test_workers_that_disagreed_and_found_it_out_are_a_note(tmp_path: Path) -> None:
    def path(run_id: str, *, found_out: bool) -> Path:
        builder = RecoveryBuilder(tmp_path / "runs", run_id).create().start("node-a", "node-b").steps(1, 4)
        for process in builder.ranks:
            process.step(5, 0, 2, {"fingerprint": str(process.rank) * 16, "step_seconds": 0.5})
        builder.run.drain()
        builder.step = 5
        builder = builder.differ(1, agreed=4) if found_out else builder.lose(1)
        return builder.steps(5, 8).finish().close()

    report = verify_bundle(path("found-out", found_out=True))
    assert report.findings == ()
    assert "workers disagreed about step 5: fingerprint" in report.notes
    assert "workers disagreed about step 5: fingerprint" in unequal(path("not-found-out", found_out=False))
