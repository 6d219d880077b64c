"""A driver that is killed just before each change it makes to the file system, one after the other.

Its workers write what they have to write whatever happens to it: their spool is there in two stages, which `stage`
puts in its place as a process of its own would.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from unittest import mock

import pytest
from helpers.bundles import ticking_clock, write_checkpoint
from helpers.kill_points import run_until_killed, unwatched
from helpers.recording import checked_events, checked_rows, of_type

from recorder.bundle import layout
from recorder.bundle.manifest import bundle_files, read_manifest
from recorder.bundle.verify import verify_bundle
from recorder.ledger import events
from recorder.run import Run
from recorder.spool_folder import spool_folder
from recorder.worker import WorkerRecorder

STEPS = 6
FILES = {"config/resolved.yaml": b"a: 1\n"}
EVERY = (
    3  # one change in three is tried: all of them, which is a matter of setting this to 1, take a quarter of a minute
)


class Scenario:
    """One run in a folder of its own, and what its two workers leave."""

    def __init__(self, folder: Path, written: Path) -> None:
        self.folder, self.written = folder, written
        self.path = folder / "runs" / "demo"

    def drive(self) -> None:
        """The life of the driver, from the beginning to the seal."""
        spools, clock = self.folder / "spools", ticking_clock()
        run = Run.create(self.path.parent, run_id="demo", files=FILES, spools=spools, clock=clock, name="demo")
        run._collect = lambda: None  # type: ignore[method-assign]
        run.begin_attempt()
        run.writer.keep = 1
        for number in (1, 2):
            with unwatched():
                self.stage(number)
            run.drain()
            run.writer.add_system_row({"node": "a", "cpu_percent": 1.0})
        run.close("finished")

    def resume(self) -> None:
        """A second driver, which does nothing but what a resume does, and seals."""
        run = Run.resume(self.path, spools=self.folder / "spools", clock=ticking_clock(2e9))
        run.close("interrupted")

    def stage(self, number: int) -> None:
        """What the workers have written by then, seen by nobody who watches the driver."""
        spool = spool_folder(self.folder / "spools", self.path, 1)
        for step in (2, 4)[:number]:
            folder = self.path / layout.checkpoint_folder(step)
            if not folder.exists() and not self.ended(step):
                shutil.copytree(self.written / f"checkpoint-{step}", folder)
        spool.mkdir(parents=True, exist_ok=True)
        for path in (self.written / f"stage-{number}").iterdir():
            shutil.copyfile(path, spool / path.name)

    def ended(self, step: int) -> bool:
        """Whether the ledger has the checkpoint of `step` or later ones: it is not for a worker to write any more."""
        text = "".join(path.read_text() for path in layout.segments(self.path, layout.LEDGER))
        return f'"step":{step}' in text and "checkpoint.saved" in text


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the workers write: stage 1 is the first half of it."""
    folder = tmp_path_factory.mktemp("written")
    spool = folder / "spool"
    # With its true start time a resume would take this very process for a worker that hangs on, and kill it.
    with mock.patch("recorder.worker.start_ticks", return_value=1):
        workers = [WorkerRecorder(spool, f"rank-{rank}", 0, rank, 2) for rank in range(2)]
        saver = WorkerRecorder(spool, "saver")
    for number, steps in ((1, range(1, 4)), (2, range(4, STEPS + 1))):
        for step in steps:
            for rank, worker in enumerate(workers):
                worker.log({"accuracy": step / 8})
                worker.step(step, loss=1 / step, step_seconds=0.5)
                worker.event("note", rank=rank, number=step)
                worker.spool.write("log", {"level": "INFO", "logger": "root", "text": str(step)})
                with (spool / f"rank-{rank}.0.out").open("a") as file:
                    file.write(f"line {step}\n")
        saved = write_checkpoint(folder / f"checkpoint-{2 * number}", 2 * number)
        path = layout.checkpoint_folder(2 * number)
        saver.event(events.CHECKPOINT_SAVED, step=2 * number, path=path, files=saved)
        with saver.spool.path.open("ab") as file:
            file.write(b"damaged %d\n" % number)
        if number == 2:
            with workers[0].spool.path.open("ab") as file:
                file.write(b'{"torn":')
        shutil.copytree(spool, folder / f"stage-{number}")
    return folder


def assert_whole(scenario: Scenario) -> None:
    """Everything the workers wrote is in the sealed bundle once, and nothing is left over."""
    path = scenario.path
    rows = checked_rows(path)
    assert [(row["step"], row["worker_rank"], row["loss"]) for row in rows] == [
        (step, [0, 1], 1 / step) for step in range(1, STEPS + 1)
    ]
    checked_rows(path, layout.SYSTEM_METRICS)
    ledger = checked_events(path)
    for rank in range(2):
        notes = [fields["number"] for fields in of_type(ledger, "note") if fields["rank"] == rank]
        assert notes == list(range(1, STEPS + 1))
        lines = (path / layout.log_file(1, f"rank-{rank}")).read_text().splitlines()
        texts = [line.split(" ", 1)[1] for line in lines]
        for kind in ("stdout line ", "logging INFO root: "):
            assert [text for text in texts if text.startswith(kind)] == [f"{kind}{n}" for n in range(1, STEPS + 1)]
    torn = sorted((fields["spool"], fields["bytes"]) for fields in of_type(ledger, "spool.torn"))
    assert torn == [("rank-0.0.spool", 8), ("saver.0.spool", 10), ("saver.0.spool", 10)]
    assert [fields["step"] for fields in of_type(ledger, "checkpoint.saved")] == [2, 4]
    removed = {fields["step"] for fields in of_type(ledger, "checkpoint.removed")}
    kept = {layout.checkpoint_step(folder.name) for folder in (path / layout.CHECKPOINTS).iterdir()}
    assert (kept, removed) in (({4}, {2}), ({2, 4}, set()))
    closed = [fields["path"] for fields in of_type(ledger, "segment.closed")]
    assert sorted(closed) == sorted(name for name in bundle_files(path) if name.endswith(".parquet"))
    logs = [fields["path"] for fields in of_type(ledger, "log.closed")]
    assert sorted(logs) == [layout.log_file(1, f"rank-{rank}") for rank in range(2)]
    manifest = read_manifest(path)
    assert manifest is not None
    assert sorted(manifest["files"]) == bundle_files(path)
    assert not [name for name in bundle_files(path) if name.endswith((".tmp", ".partial"))]
    assert {name.split("/")[0] for name in bundle_files(path) if name.endswith(".jsonl")} == {layout.LEDGER}
    assert verify_bundle(path).findings == ()


def was_begun(scenario: Scenario) -> bool:
    """Whether the run has an event: before that there is nothing to resume."""
    return any(path.read_bytes().count(b"\n") for path in layout.segments(scenario.path, layout.LEDGER))


def test_the_straight_run(tmp_path: Path, written: Path) -> None:
    scenario = Scenario(tmp_path, written)
    changes = run_until_killed(scenario.drive, None)
    assert changes is not None
    assert changes > 100
    assert_whole(scenario)


def test_a_driver_killed_before_any_change_can_be_resumed_to_the_same_record(tmp_path: Path, written: Path) -> None:
    resumed = 0
    for at in itertools.count(1, EVERY):
        scenario = Scenario(tmp_path / str(at), written)
        if run_until_killed(scenario.drive, at) is not None:
            break
        if was_begun(scenario):
            if read_manifest(scenario.path) is None:
                scenario.stage(2)
            # A resume that is killed as well, somewhere, and one that is not.
            run_until_killed(scenario.resume, 1 + at * 7 % 60)
            assert run_until_killed(scenario.resume, None) is not None
            assert_whole(scenario)
            resumed += 1
    assert resumed > 40
