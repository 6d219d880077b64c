from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import write_checkpoint
from helpers.children import Child, Counter, lock_holder, worker_until_killed
from helpers.disks import fill, small_disk
from helpers.recording import checked_events, checked_rows, new_run, of_type, resumed_run

from recorder.bundle import layout
from recorder.bundle.files import digest_file
from recorder.bundle.manifest import bundle_files, read_manifest
from recorder.bundle.verify import verify_bundle
from recorder.canonical import digest
from recorder.errors import BundleError, RecordingError, RunNotFound, UsageError
from recorder.ledger import events
from recorder.lock import is_locked
from recorder.run import Run


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def save(run: Run, step: int) -> str:
    """What a worker does: a checkpoint on disk, and its event."""
    path = layout.checkpoint_folder(step)
    run.event(events.CHECKPOINT_SAVED, step=step, path=path, files=write_checkpoint(run.path / path, step))
    return path


def test_a_run_from_create_to_seal(tmp_path: Path) -> None:
    run = new_run(tmp_path, files={"config/resolved.yaml": b"a: 1\n"}, parent=None)
    with run:
        worker = run.worker()
        for step in (1, 2, 3):
            worker.log({"accuracy": step / 8})
            worker.step(step, loss=1.0 / step, step_seconds=0.5)
        run.event("note", text="by the driver")
        worker.event("note", text="by a worker")
        worker.close()
        manifest = run.close("finished", last_step=3)

    document = json.loads((run.path / layout.RUN).read_bytes())
    assert {"id": "demo", "seed": 1, "format": 1, "parent": None}.items() <= document.items()
    assert read_manifest(run.path) == manifest
    assert (manifest["outcome"], manifest["previous_root"]) == ("finished", None)
    assert manifest["files"] == {name: digest_file(run.path / name).record() for name in bundle_files(run.path)}
    ledger = checked_events(run.path)
    assert of_type(ledger, "run.started") == [{"files": {"config/resolved.yaml": digest(b"a: 1\n")}}]
    assert sorted(fields["text"] for fields in of_type(ledger, "note")) == ["by a worker", "by the driver"]
    (ended,) = of_type(ledger, "attempt.ended")
    assert {"outcome": "finished", "last_step": 3}.items() <= ended.items()
    assert ledger[-1]["type"] == "run.ended"
    assert [(row["step"], row["accuracy"]) for row in checked_rows(run.path)] == [(1, 0.125), (2, 0.25), (3, 0.375)]
    assert verify_bundle(run.path).findings == ()
    assert not is_locked(run.path.parent, "demo")
    assert list((tmp_path / "spools").iterdir()) == []


def test_an_existing_run_is_left_alone(tmp_path: Path) -> None:
    new_run(tmp_path).close("finished")
    before = everything(tmp_path)
    with pytest.raises(UsageError, match=r"run demo exists already; resume it with run\.resume=demo or choose another"):
        new_run(tmp_path)
    assert everything(tmp_path / "runs" / "demo") == everything(tmp_path / "runs" / "demo")
    assert {name: data for name, data in everything(tmp_path).items() if ".locks" not in name} == {
        name: data for name, data in before.items() if ".locks" not in name
    }
    resumed_run(tmp_path).abandon()


@pytest.mark.parametrize("run_id", ["../demo", "a/b", "/tmp/x", "", ".", "..", ".hidden", "a\n", "x" * 97, "latest"])
def test_an_id_that_is_no_plain_name_is_refused_before_anything_is_written(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(UsageError, match="is not allowed: letters, digits"):
        new_run(tmp_path, run_id)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_be_begun_leaves_no_folder_and_no_lock(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="outside of the bundle"):
        new_run(tmp_path, files={"config/resolved.yaml": b"", "../outside": b""})
    with pytest.raises(TypeError):
        new_run(tmp_path, extra=object())
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [layout.LOCKS]
    new_run(tmp_path).close("finished")


def test_on_a_full_disk_a_run_cannot_be_begun(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        filler = fill(disk)
        filler.write_bytes(bytes(filler.stat().st_size - 16 * 1024))
        with pytest.raises(RecordingError, match=r"^cannot write [^\n]*source\.tar\.gz: the disk is full; [^\n]*$"):
            new_run(disk, files={"source/source.tar.gz": b"x" * 40_000})
        assert [path.name for path in (disk / "runs").iterdir()] == [layout.LOCKS]


def test_nothing_can_be_recorded_after_the_seal(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.close("finished")
    sealed = everything(run.path)
    with pytest.raises(RecordingError, match="cannot record note: the run is closed"):
        run.event("note")
    assert everything(run.path) == sealed


def test_a_sealed_run_goes_on_and_keeps_its_seal(tmp_path: Path) -> None:
    first = new_run(tmp_path).close("interrupted")
    run = resumed_run(tmp_path)
    assert (run.attempt, read_manifest(run.path)) == (2, None)
    assert json.loads((run.path / layout.archived_seal(1)).read_bytes()) == first
    second = run.close("interrupted")
    assert second["previous_root"] == first["root"]
    third = resumed_run(tmp_path).close("finished")
    assert third["previous_root"] == second["root"]
    ledger = checked_events(run.path)
    roots = [fields["previous_root"] for fields in of_type(ledger, "attempt.started")]
    assert roots == [None, first["root"], second["root"]]
    assert verify_bundle(run.path).findings == ()


def test_an_open_run_is_recovered_first(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    worker = run.worker()
    worker.step(1, loss=1.0)
    run.drain()
    worker.step(2, loss=0.5)
    run.abandon()
    run = resumed_run(tmp_path)
    assert run.attempt == 2
    run.close("finished")
    assert [(row["attempt"], row["step"]) for row in checked_rows(run.path)] == [(1, 1), (1, 2)]
    ended = of_type(checked_events(run.path), "attempt.ended")
    assert [(fields["outcome"], fields.get("recovered")) for fields in ended] == [("killed", True), ("finished", None)]


def test_a_run_that_another_process_writes_cannot_be_resumed(tmp_path: Path) -> None:
    new_run(tmp_path).close("finished")
    child = Child(lock_holder, tmp_path / "runs", "demo")
    child.line()
    before = everything(tmp_path / "runs" / "demo")
    with pytest.raises(UsageError, match=f"run demo is still being written by process {child.process.pid}"):
        resumed_run(tmp_path)
    child.kill()
    assert everything(tmp_path / "runs" / "demo") == before
    resumed_run(tmp_path).close("finished")


def test_what_is_no_bundle_cannot_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    with pytest.raises(RunNotFound, match=r"demo is no bundle: it has no run\.json"):
        resumed_run(tmp_path)
    (tmp_path / "runs" / "demo" / layout.RUN).write_text("{}")
    with pytest.raises(BundleError, match="demo ended before its first event and cannot be resumed; delete its folder"):
        resumed_run(tmp_path)
    assert not is_locked(tmp_path / "runs", "demo")


def test_a_damaged_ledger_cannot_be_resumed_and_is_not_touched(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.abandon()
    path = run.path / layout.ledger_segment(1)
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    before = everything(run.path)
    with pytest.raises(BundleError, match=r"ledger/0001\.jsonl line 1 is not"):
        resumed_run(tmp_path)
    assert everything(run.path) == before
    assert not is_locked(run.path.parent, "demo")


def test_a_living_worker_of_the_earlier_attempt_is_killed_and_this_process_is_not(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    own = run.worker("rank-0")
    counter = Counter(tmp_path / "counter")
    child = Child(worker_until_killed, run.spool_folder, "rank-1", tmp_path / "counter")
    counter.wait_for(10, child)
    run.abandon()
    run = resumed_run(tmp_path)
    assert child.process.wait(60) == -9
    child.kill()
    own.close()
    assert of_type(checked_events(run.path), "attempt.fenced") == [
        {"origin": "rank-1.0.spool", "pid": child.process.pid}
    ]
    steps = [row["step"] for row in checked_rows(run.path)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= counter.get()
    run.close("finished")


def test_a_worker_that_cannot_be_killed_stops_the_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path)
    run.worker()
    run.abandon()

    def refuse(pid: int, started: int) -> bool:
        raise PermissionError

    monkeypatch.setattr("recorder.recovery.kill", refuse)
    words = f"process {os.getpid()} still writes this run and cannot be killed: it belongs to another user"
    monkeypatch.setattr("recorder.recovery.os.getpid", lambda: -1)
    with pytest.raises(UsageError, match=words):
        resumed_run(tmp_path)


def test_two_runs_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    runs = [new_run(tmp_path, run_id) for run_id in ("one", "two")]
    workers = [run.worker() for run in runs]
    for step in (1, 2, 3):
        for number, worker in enumerate(workers):
            worker.step(step, loss=float(number))
    runs[0].close("finished")
    workers[1].step(4, loss=1.0)
    runs[1].close("finished")
    for number, run in enumerate(runs):
        assert [row["loss"] for row in checked_rows(run.path)] == [float(number)] * (3 + number)
        assert verify_bundle(run.path).findings == ()


def test_runs_of_the_same_id_in_two_folders_share_no_spool(tmp_path: Path) -> None:
    runs = [new_run(tmp_path / name, spools=tmp_path / "spools", name=name) for name in ("here", "there")]
    for number, run in enumerate(runs):
        run.worker().step(1, loss=float(number))
    runs[0].close("finished")
    runs[1].close("finished")
    assert [[row["loss"] for row in checked_rows(run.path)] for run in runs] == [[0.0], [1.0]]
    assert list((tmp_path / "spools").iterdir()) == []


def test_old_checkpoints_go_after_their_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(tmp_path)
    run.writer.keep = 2
    gone = []

    def remove(path: Path, ignore_errors: bool = False) -> None:
        gone.append((path.name, of_type(checked_events(run.path), "checkpoint.removed")[-1]["path"]))
        remove_tree(path, ignore_errors=ignore_errors)

    remove_tree = shutil.rmtree
    monkeypatch.setattr("recorder.checkpoint.inventory.shutil.rmtree", remove)
    for step in (10, 20, 30, 40):
        save(run, step)
    assert gone == [(f"step-000000{step}", layout.checkpoint_folder(step)) for step in (10, 20)]
    assert [step for step, _, _ in run.writer.checkpoints()] == [40, 30]
    assert sorted(path.name for path in (run.path / layout.CHECKPOINTS).iterdir()) == ["step-00000030", "step-00000040"]
    reasons = [fields["reason"] for fields in of_type(checked_events(run.path), "checkpoint.removed")]
    assert reasons == ["checkpoint.keep=2"] * 2
    monkeypatch.undo()
    run.close("finished")
    assert verify_bundle(run.path).findings == ()


def test_a_checkpoint_closes_the_segments(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    worker = run.worker()
    for step in (1, 2, 3, 4):
        worker.step(step, loss=1.0)
        run.drain()
        if step % 2 == 0:
            save(run, step)
    run.close("finished")
    closed = of_type(checked_events(run.path), "segment.closed")
    assert [(fields["path"], fields["rows"]) for fields in closed] == [
        ("metrics/0001.parquet", 2),
        ("metrics/0002.parquet", 2),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"step": 5, "path": "../outside", "files": {}},
        {"step": 5, "path": layout.checkpoint_folder(6), "files": {}},
        {"step": 5, "path": layout.checkpoint_folder(5), "files": {"model.safetensors": {}}},
        {"step": 5, "path": layout.checkpoint_folder(5), "files": 3},
    ],
)
def test_an_event_that_is_not_what_its_type_says_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    run = new_run(tmp_path)
    with pytest.raises(BundleError, match=r"a checkpoint\.saved event is malformed"):
        run.event(events.CHECKPOINT_SAVED, **fields)
    with pytest.raises(BundleError, match="node '../x' cannot name a file"):
        run.event(events.NODE_ENVIRONMENT, node="../x", environment={})
    run.close("finished")
    assert of_type(checked_events(run.path), "checkpoint.saved") == []


def test_content_that_differs_is_put_beside_what_is_there(tmp_path: Path) -> None:
    path = "config/resolved.yaml"
    run = new_run(tmp_path, files={path: b"a: 1\n"})
    assert run.writer.put_files({path: b"a: 1\n"}) == {path: digest(b"a: 1\n")}
    run.close("interrupted")
    run = resumed_run(tmp_path)
    again = [run.writer.put_files({path: data}) for data in (b"a: 1\n", b"a: 2\n", b"a: 2\n", b"a: 3\n")]
    assert [list(placed) for placed in again] == [
        [path],
        ["config/resolved.attempt-0002.yaml"],
        ["config/resolved.attempt-0002.yaml"],
        ["config/resolved.attempt-0002-2.yaml"],
    ]
    assert (run.path / path).read_bytes() == b"a: 1\n"
    manifest = run.close("finished")
    assert (
        manifest["files"]["config/resolved.attempt-0002-2.yaml"]
        == digest_file(run.path / "config/resolved.attempt-0002-2.yaml").record()
    )


def test_workers_that_disagree_are_an_event(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    for rank in range(2):
        run.worker(f"rank-{rank}", 0, rank, 2).step(1, loss=1.0 + rank, tokens=64)
    run.close("finished")
    assert of_type(checked_events(run.path), "step.diverged") == [
        {"step": 1, "membership": 0, "ranks": [0, 1], "differing": ["loss"]}
    ]


def test_a_nodes_environment_is_a_file_and_a_digest(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.worker().event(events.NODE_ENVIRONMENT, node="ip-10.0.0.1", environment={"cpu": 2})
    run.close("finished")
    (fields,) = of_type(checked_events(run.path), "node.environment")
    path = "environment/nodes/ip-10.0.0.1.json"
    assert fields == {"node": "ip-10.0.0.1", "environment": {path: digest((run.path / path).read_bytes())}}


def test_system_metrics_are_a_series_of_their_own(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.writer.add_system_row({"node": "a", "cpu_percent": 50.0})
    run.close("finished")
    (row,) = checked_rows(run.path, layout.SYSTEM_METRICS)
    assert (row["attempt"], row["node"], row["cpu_percent"]) == (1, "a", 50.0)


def test_observers_see_rows_events_and_lines(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    seen: list[tuple[str, Any]] = []
    run.observers.append(lambda kind, content: seen.append((kind, content.get("loss") or content.get("text"))))
    worker = run.worker()
    worker.step(1, loss=2.0)
    worker.event("note", text="hi")
    (run.spool_folder / "rank-0.0.out").write_text("printed\n")
    run.drain()
    assert sorted(seen) == [("line", "printed"), ("note", "hi"), ("row", 2.0)]
    run.close("finished")


def test_a_stop_reaches_the_workers(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    worker = run.worker()
    run.request_stop("SIGTERM")
    assert worker.mailbox.stop_requested()
    run.close("interrupted")


def test_leaving_without_closing_leaves_the_run_open_and_free(tmp_path: Path) -> None:
    class Trouble(Exception):
        pass

    run = Run.create(tmp_path / "runs", run_id="demo", spools=tmp_path / "spools")
    with pytest.raises(Trouble), run:
        raise Trouble
    assert read_manifest(run.path) is None
    resumed_run(tmp_path).close("finished")
