"""What is settled while a run goes on: rows that will not be completed, checkpoints whose writer is gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers.bundles import write_checkpoint
from helpers.children import Child, Counter, worker_until_killed
from helpers.recording import checked_events, checked_rows, new_run, of_type

from recorder.bundle import layout
from recorder.bundle.verify import verify_bundle
from recorder.checkpoint.restore import newest_checkpoint
from recorder.errors import RecordingError
from recorder.ledger import events
from recorder.run import Run


def save(run: Run, step: int, announce: bool = True) -> None:
    path = layout.checkpoint_folder(step)
    files = write_checkpoint(run.path / path, step)
    if announce:
        run.event(events.CHECKPOINT_SAVED, step=step, path=path, files=files)


def begin_to_save(run: Run, step: int, writer: int) -> Path:
    """What is on disk while process `writer` saves."""
    partial = run.path / layout.CHECKPOINTS / f".step-{step:08d}.{writer}.partial"
    partial.mkdir(parents=True)
    (partial / layout.CHECKPOINT_MODEL).write_bytes(b"half")
    return partial


def checkpoints(run: Run) -> list[str]:
    return sorted(path.name for path in (run.path / layout.CHECKPOINTS).iterdir())


def steps(run: Run) -> list[tuple[int, int, list[int]]]:
    """Membership, step and ranks of each row."""
    return [(row["membership"], row["step"], row["worker_rank"]) for row in checked_rows(run.path)]


def test_settling_records_a_step_whose_other_worker_was_lost_before_it_could(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.worker("rank-0", workers=2).step(1, loss=1.0)
    run.drain()
    assert checked_rows(run.path) == []
    run.settle()
    assert [(row["step"], row["worker_rank"]) for row in checked_rows(run.path)] == [(1, [0])]


def test_rows_of_earlier_memberships_are_completed_while_the_present_one_waits_for_its_own(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    zero, one = (run.worker(f"rank-{rank}", 0, rank, 3) for rank in range(2))
    zero.step(1, loss=1.0)
    one.step(1, loss=1.0)
    zero.enter(1, 2)
    one.enter(1, 2)
    zero.step(2, loss=0.5)
    run.complete_rows(0)
    assert steps(run) == []
    run.complete_rows(1)
    assert steps(run) == [(0, 1, [0, 1])]
    one.step(2, loss=0.5)
    run.drain()
    assert steps(run) == [(0, 1, [0, 1]), (1, 2, [0, 1])]
    run.close("finished")
    assert [row.get("late") for row in checked_rows(run.path)] == [None, None]
    assert verify_bundle(run.path).findings == ()


def test_completing_rows_after_collecting_has_failed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a row could be written that lacks a part which is still in a spool."""
    run = new_run(tmp_path)
    run.worker("rank-0", workers=2).step(1, loss=1.0)

    def full(row: object, differing: object = ()) -> None:
        raise RecordingError("the disk is full")

    monkeypatch.setattr(run.writer, "add_row", full)
    for _ in range(2):
        with pytest.raises(RecordingError, match="the disk is full"):
            run.complete_rows()
    with pytest.raises(RecordingError, match="the disk is full"):
        run.close("finished")
    run.abandon()


def test_when_nobody_is_left_workers_are_settled_before_others_begin(tmp_path: Path) -> None:
    """Within one attempt: rank 0 was killed between committing a checkpoint and saying so, rank 1 hangs on."""
    run = new_run(tmp_path)
    counter = Counter(tmp_path / "counter")
    hanging = Child(worker_until_killed, run.spool_folder, "rank-1", tmp_path / "counter")
    counter.wait_for(5, hanging)
    save(run, 10)
    save(run, 20, announce=False)
    begin_to_save(run, 30, hanging.process.pid)

    assert newest_checkpoint(run) == (20, run.path / layout.checkpoint_folder(20))
    assert hanging.process.wait(60) == -signal.SIGKILL
    hanging.kill()
    assert checkpoints(run) == ["step-00000010", "step-00000020"]
    found = [row["step"] for row in checked_rows(run.path)]
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= counter.get()
    run.close("finished")
    assert verify_bundle(run.path).findings == ()


def test_who_waits_for_the_answer_is_not_killed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    children = []
    for rank in range(2):
        counter = Counter(tmp_path / f"counter-{rank}")
        children.append(Child(worker_until_killed, run.spool_folder, f"rank-{rank}", tmp_path / f"counter-{rank}"))
        counter.wait_for(1, children[-1])
    waiting, left_over = children
    assert newest_checkpoint(run, {waiting.process.pid}) is None
    assert left_over.process.wait(60) == -signal.SIGKILL
    assert waiting.process.poll() is None
    fenced = of_type(checked_events(run.path), events.ATTEMPT_FENCED)
    assert fenced == [{"origin": "rank-1.0.spool", "pid": left_over.process.pid}]
    for child in children:
        child.kill()
    run.abandon()


def test_the_checkpoint_that_a_spared_process_writes_is_left_to_it(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    own, gone, nobody = (begin_to_save(run, step, writer) for step, writer in ((10, os.getpid()), (10, 77), (20, 0)))
    nobody = nobody.rename(nobody.with_name(".step-00000020.partial"))
    save(run, 5, announce=False)
    run.settle({os.getpid()})
    assert [path.exists() for path in (own, gone, nobody)] == [True, False, False]
    ledger = checked_events(run.path)
    assert [fields["step"] for fields in of_type(ledger, events.CHECKPOINT_SAVED)] == [5]
    failed = [fields["path"] for fields in of_type(ledger, events.CHECKPOINT_FAILED)]
    assert failed == [path.relative_to(run.path).as_posix() for path in (gone, nobody)]
    run.settle()
    assert not own.exists()
    run.close("finished")
    assert verify_bundle(run.path).findings == ()
