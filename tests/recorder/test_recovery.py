"""Resuming after a kill: each state that a kill can leave on disk, and real processes killed at any moment."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
from helpers.bundles import write_checkpoint
from helpers.children import Child, Counter, driver_until_killed, worker_until_killed
from helpers.recording import checked_events, checked_rows, new_run, of_type, resumed_run

from recorder.bundle import layout
from recorder.bundle.manifest import read_manifest
from recorder.bundle.verify import verify_bundle
from recorder.checkpoint.restore import newest_checkpoint
from recorder.ledger import events
from recorder.run import Run


def save(run: Run, step: int, announce: bool = True) -> Path:
    path = layout.checkpoint_folder(step)
    files = write_checkpoint(run.path / path, step)
    if announce:
        run.event(events.CHECKPOINT_SAVED, step=step, path=path, files=files)
    return run.path / path


def checkpoints(run: Run) -> list[str]:
    return sorted(path.name for path in (run.path / layout.CHECKPOINTS).iterdir())


def test_an_attempt_that_ended_before_the_seal_is_not_recovered_again(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.worker().step(1, loss=1.0)
    run.writer.finish(events.ATTEMPT_ENDED, outcome="finished")
    run.abandon()
    (run.path / ".bundle.json.77.tmp").write_text("half a manifest")
    run = resumed_run(tmp_path)
    manifest = run.close("finished")
    ended = of_type(checked_events(run.path), "attempt.ended")
    assert [fields["outcome"] for fields in ended] == ["finished", "finished"]
    assert not any(name.endswith(".tmp") for name in manifest["files"])
    assert not (run.path / ".bundle.json.77.tmp").exists()


def test_a_spool_that_is_not_on_this_machine_is_a_stated_gap(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.worker().step(1, loss=1.0)
    run.drain()
    run.abandon()
    log = run.path / layout.log_file(1, "rank-0")
    log.parent.mkdir(parents=True)
    log.write_text("2026-01-01T00:00:00.000000Z stdout whole\n2026-01-01T00:00:0")
    shutil.rmtree(tmp_path / "spools")
    run = resumed_run(tmp_path)
    run.close("finished")
    (gap,) = of_type(checked_events(run.path), "record.gap")
    assert "not on this machine" in gap["reason"]
    assert [row["step"] for row in checked_rows(run.path)] == [1]
    assert log.read_text() == "2026-01-01T00:00:00.000000Z stdout whole\n"
    assert verify_bundle(run.path).findings == ()


def test_half_a_row_is_kept_as_evidence_and_its_record_collected_again(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    worker = run.worker()
    worker.step(1, loss=1.0)
    worker.step(2, loss=0.5)
    run.drain()
    run.abandon()
    path = run.path / layout.open_series(layout.METRICS, 1)
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    run = resumed_run(tmp_path)
    (torn,) = of_type(checked_events(run.path), "segment.torn")
    assert (torn["path"], torn["bytes"]) == ("metrics/0001.jsonl", len(data.splitlines(keepends=True)[2]) - 10)
    assert [row["step"] for row in checked_rows(run.path)] == [1, 2]
    run.close("finished")


def test_a_segment_closed_without_an_event_gets_one(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.worker().step(1, loss=1.0)
    run.drain()
    run.writer._series[layout.METRICS].close_segment()  # the kill comes before the event
    run.abandon()
    run = resumed_run(tmp_path)
    run.close("finished")
    (closed,) = of_type(checked_events(run.path), "segment.closed")
    assert (closed["path"], closed["rows"]) == ("metrics/0001.parquet", 1)


def test_logs_that_were_closed_before_the_kill_stay_closed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.worker()
    (run.spool_folder / "rank-0.0.out").write_text("one\ntwo")
    writer = run.writer
    writer.collector.finish()
    for log in writer._logs.values():
        writer._close_log(log)  # the kill comes before the end of the attempt
    run.abandon()
    run = resumed_run(tmp_path)
    run.close("finished")
    log = run.path / layout.log_file(1, "rank-0")
    assert [line.split(" ", 1)[1] for line in log.read_text().splitlines()] == ["stdout one", "stdout two [unfinished]"]
    assert log.stat().st_mode & 0o222 == 0
    assert len(of_type(checked_events(run.path), "log.closed")) == 1
    assert verify_bundle(run.path).findings == ()


def test_a_checkpoint_that_was_saved_again_after_its_removal_stays(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.writer.keep = 1
    for step in (10, 20):
        save(run, step)
    run.writer.keep = 2
    save(run, 10)
    run.abandon()
    run = resumed_run(tmp_path)
    assert checkpoints(run) == ["step-00000010", "step-00000020"]
    assert newest_checkpoint(run) == (20, run.path / layout.checkpoint_folder(20))
    run.close("finished")
    assert verify_bundle(run.path).findings == ()


def test_a_removal_that_the_kill_prevented_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path)
    run.writer.keep = 1
    save(run, 10)
    monkeypatch.setattr("recorder.checkpoint.inventory.shutil.rmtree", lambda path, ignore_errors: None)
    save(run, 20)
    monkeypatch.undo()
    run.abandon()
    assert checkpoints(run) == ["step-00000010", "step-00000020"]
    run = resumed_run(tmp_path)
    assert checkpoints(run) == ["step-00000020"]
    run.close("finished")
    assert verify_bundle(run.path).findings == ()


def test_a_committed_checkpoint_without_an_event_is_adopted_and_a_partial_one_discarded(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    folder = save(run, 10, announce=False)
    partial = folder.with_name(".step-00000020.77.partial")
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    run.abandon()
    run = resumed_run(tmp_path)
    assert checkpoints(run) == ["step-00000010"]
    ledger = checked_events(run.path)
    (saved,) = of_type(ledger, "checkpoint.saved")
    assert (saved["step"], saved["recovered"]) == (10, True)
    (failed,) = of_type(ledger, "checkpoint.failed")
    assert failed["path"] == "checkpoints/.step-00000020.77.partial"
    run.close("finished")
    assert verify_bundle(run.path).findings == ()


@pytest.mark.parametrize("change", ["missing", "cut", "other step", "no marker", "bad marker"])
def test_an_incomplete_checkpoint_is_not_adopted(tmp_path: Path, change: str) -> None:
    run = new_run(tmp_path)
    folder = save(run, 10, announce=False)
    marker = folder / layout.CHECKPOINT_STATE
    marker.chmod(0o644)
    if change == "missing":
        (folder / layout.CHECKPOINT_MODEL).unlink()
    elif change == "cut":
        (folder / layout.CHECKPOINT_MODEL).chmod(0o644)
        (folder / layout.CHECKPOINT_MODEL).write_bytes(b"cut")
    elif change == "other step":
        folder.rename(folder.with_name("step-00000011"))
    elif change == "no marker":
        marker.unlink()
    else:
        marker.write_text(json.dumps({"step": "x"}))
    run.settle()
    assert newest_checkpoint(run) is None
    assert of_type(checked_events(run.path), "checkpoint.saved") == []
    run.abandon()


@pytest.mark.parametrize("path", ["../victim", "/tmp/victim", "checkpoints/../../victim"])
def test_a_forged_ledger_removes_nothing_outside_the_bundle(tmp_path: Path, path: str) -> None:
    run = new_run(tmp_path)
    (tmp_path / "runs" / "victim").mkdir()
    run.writer.ledger.append(events.CHECKPOINT_REMOVED, {"step": 10, "path": path})
    run.abandon()
    with pytest.raises(Exception, match=r"a checkpoint\.removed event is malformed"):
        resumed_run(tmp_path)
    assert (tmp_path / "runs" / "victim").is_dir()


def lines_of(run: Run, attempt: int, origin: str, stream: str) -> list[str]:
    lines = (run.path / layout.log_file(attempt, origin)).read_text().splitlines()
    return [text.split(" ", 2)[2] for text in lines if text.split(" ", 2)[1] == stream]


def assert_everything_once(run: Run, attempt: int, steps_said: int) -> int:
    """Whatever the workers of one attempt wrote is there once, in order, and no less than they said; how many steps."""
    rows = [row for row in checked_rows(run.path) if row["attempt"] == attempt]
    notes = [
        event["fields"] for event in checked_events(run.path) if (event["attempt"], event["type"]) == (attempt, "note")
    ]
    steps = [row["step"] for row in rows]
    assert steps == list(range(1, len(steps) + 1))
    assert all(row["loss"] == 1 / row["step"] == row["accuracy"] for row in rows)
    assert len(steps) >= steps_said
    for rank in range(2):
        origin = f"rank-{rank}"
        numbers = [note["number"] for note in notes if note["origin"] == origin]
        assert numbers == list(range(1, len(numbers) + 1))
        printed = [text.removesuffix(" [unfinished]") for text in lines_of(run, attempt, origin, "stdout")]
        assert printed == [f"line {number}" for number in range(1, len(printed) + 1)]
        logged = lines_of(run, attempt, origin, "logging")
        assert logged == [f"INFO {origin}: {number}" for number in range(1, len(logged) + 1)]
        assert min(len(numbers), len(printed), len(logged)) >= len([row for row in rows if rank in row["worker_rank"]])
    return len(steps)


def test_a_driver_killed_at_any_moment_while_its_workers_go_on_loses_nothing(tmp_path: Path) -> None:
    rng = random.Random(7)
    for life in range(1, 4):
        driver = Child(driver_until_killed, tmp_path)
        folder = Path(driver.line())
        counters, workers = [], []
        for rank in range(2):
            counters.append(Counter(tmp_path / f"counter-{life}-{rank}"))
            arguments = (folder, f"rank-{rank}", tmp_path / f"counter-{life}-{rank}", rank, 2)
            workers.append(Child(worker_until_killed, *arguments))
        for counter, worker in zip(counters, workers, strict=True):
            counter.wait_for(rng.randrange(1, 500), worker)
        driver.kill()
        at_the_kill = [counter.get() for counter in counters]
        counters[0].wait_for(min(1000, at_the_kill[0] + rng.randrange(100)), workers[0])
        if life % 2:
            workers[1].kill()

        run = resumed_run(tmp_path)
        assert run.attempt == 2 * life
        for worker in workers:
            assert worker.process.wait(60) == -signal.SIGKILL
            worker.kill()
        said = [counter.get() for counter in counters]
        recorded = assert_everything_once(run, 2 * life - 1, max(said))
        assert recorded >= max(at_the_kill)
        manifest = run.close("interrupted")
        assert read_manifest(run.path) == manifest
        assert not [name for name in manifest["files"] if name.endswith((".tmp", ".partial"))]
