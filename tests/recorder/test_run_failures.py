"""A run whose collecting fails: said once, raised from then on, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.disks import fill, small_disk
from helpers.recording import checked_events, checked_rows, new_run, resumed_run

from recorder.bundle.manifest import read_manifest
from recorder.errors import RecorderError, RecordingError
from recorder.run import Run


def fail_collecting(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(run.writer, "add_row", fail)


@pytest.mark.parametrize("error", [RecordingError("cannot write x: the disk is full"), ValueError("odd")])
def test_a_failure_to_collect_is_raised_from_then_on_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run = new_run(tmp_path)
    worker = run.worker()
    worker.step(1, loss=1.0)
    worker.step(2, loss=0.5)
    fail_collecting(run, monkeypatch, error)
    words = "the disk is full" if isinstance(error, RecorderError) else r"the collector failed: ValueError\('odd'\)"
    with pytest.raises(RecordingError, match=words):
        run.drain()
    monkeypatch.undo()
    worker.step(3, loss=0.25)
    worker.close()
    for attempt_to_go_on in (run.check, run.drain, lambda: run.close("finished")):
        with pytest.raises(RecordingError, match=words):
            attempt_to_go_on()
    run.abandon()
    assert read_manifest(run.path) is None
    assert checked_rows(run.path) == []
    run = resumed_run(tmp_path)
    run.close("finished")
    assert [row["step"] for row in checked_rows(run.path)] == [1, 2, 3]


def test_the_collecting_threads_failure_is_raised_by_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.run._POLL_SECONDS", 0.001)
    run = new_run(tmp_path)
    fail_collecting(run, monkeypatch, RecordingError("cannot write x: the disk is full"))
    run.worker().step(1, loss=1.0)
    assert run._thread is not None
    run._thread.join(60)
    with pytest.raises(RecordingError, match="the disk is full"):
        run.check()
    run.abandon()


def test_on_a_full_disk_the_record_stops_with_one_line_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2048) as disk:
        run = new_run(disk, spools=tmp_path / "spools")
        worker = run.worker()
        worker.step(1, loss=1.0)
        run.drain()
        filler = fill(disk)
        for step in range(2, 400):
            worker.log({f"metric {number}": step / 7 for number in range(10)})
            worker.step(step, loss=1.0 / step)
        with pytest.raises(RecordingError, match=r"^cannot write [^\n]*: the disk is full; free some space$"):
            run.drain()
        with pytest.raises(RecordingError, match="the disk is full"):
            run.close("finished")
        run.abandon()
        checked_events(run.path)
        written = [row["step"] for row in checked_rows(run.path)]
        assert written == list(range(1, len(written) + 1))
        filler.unlink()
        run = Run.resume(run.path, spools=tmp_path / "spools")
        run.close("finished")
        assert [row["step"] for row in checked_rows(run.path)] == list(range(1, 400))
        checked_events(run.path)
