from __future__ import annotations

import queue
import shlex
import threading
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import RunBuilder
from helpers.dvc_repositories import cached, dvc, git
from helpers.recording import checked_events, of_type
from test_dvc_lock import held

from recorder.bundle import layout
from recorder.bundle.manifest import read_manifest
from recorder.bundle.verify import verify_bundle
from recorder.errors import MachineError, UsageError
from recorder.tracking import background
from recorder.tracking.background import BackgroundTracking, TrackingOptions, open_tracking
from recorder.tracking.bundle_tracker import BundleTracker, Tracked
from recorder.tracking.dvc_repository import DvcRepository
from recorder.tracking.pointer import pointer_path, read_pointer
from recorder.tracking.store_check import verify_store


class Watched(BackgroundTracking):
    """Tells a test when an update is done, and what was said."""

    def __init__(self, repository: Path, **options: Any) -> None:
        self.said: list[str] = []
        self.told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[Tracked] = queue.SimpleQueue()
        super().__init__(repository, TrackingOptions(**options), self._hear)

    def _hear(self, text: str) -> None:
        self.said.append(text)
        self.told.put(text)

    def _after(self, tracked: Tracked) -> None:
        super()._after(tracked)
        self.done.put(tracked)


def begun(repository: Path, **options: Any) -> tuple[RunBuilder, Watched]:
    """A run with two workers whose tracking has begun."""
    builder = RunBuilder(repository / "runs").create().join()
    tracking = Watched(repository, **options)
    builder.run.track(tracking)
    return builder, tracking


def tracked_paths(repository: Path) -> set[str]:
    pointer = read_pointer(repository / "runs" / "demo-1.dvc")
    assert pointer is not None
    return set(DvcRepository(repository).read_directory(pointer.object) or {})


def test_files_are_tracked_as_they_close_and_the_whole_at_the_seal(repository: Path) -> None:
    builder, tracking = begun(repository)
    first = tracking.done.get(timeout=60)
    assert {"run.json", layout.RESOLVED_CONFIG} <= set(first.entries)
    assert not any(path.startswith(("ledger", "metrics", "logs")) for path in first.entries)
    builder.steps(1, 5).checkpoint(5)
    second = tracking.done.get(timeout=60)
    folder = layout.checkpoint_folder(5)
    assert set(second.entries) == {
        "metrics/0001.parquet",
        "ledger/0001.jsonl",
        *(f"{folder}/{name}" for name in ("model.safetensors", "optimizer.safetensors", "state.json")),
    }
    assert tracked_paths(repository) == {*first.entries, *second.entries}
    bundle = builder.steps(6, 12).checkpoint(12).finish(12).close()
    manifest = read_manifest(bundle)
    assert manifest is not None
    assert tracked_paths(repository) == {*manifest["files"], layout.MANIFEST}
    assert "up to date" in dvc(repository, "status")
    assert verify_bundle(bundle).findings == ()
    assert tracking.said == []
    (started,) = of_type(checked_events(bundle), "tracking.started")
    assert started["pointer"] == "runs/demo-1.dvc"
    assert started["link"] in {"hardlink", "reflink"}
    assert git(repository, "status", "--short", "--untracked-files=all") == "?? runs/.gitignore\n?? runs/demo-1.dvc\n"
    assert git(repository, "rev-list", "--count", "HEAD") == "1\n"


def test_removed_checkpoints_free_the_cache(repository: Path) -> None:
    builder, _ = begun(repository)
    builder.run.writer.keep = 1
    for step in range(1, 7):
        builder.steps(step, step).checkpoint(step)
    bundle = builder.finish(6).close()
    assert [path.name for path in (bundle / layout.CHECKPOINTS).iterdir()] == ["step-00000006"]
    manifest, pointer = read_manifest(bundle), read_pointer(pointer_path(bundle))
    assert manifest is not None
    assert pointer is not None
    named = {record["md5"] for record in manifest["files"].values()}
    extra = cached(repository) - named
    assert len(extra) == 2  # the manifest, and the tree
    assert pointer.object in extra


def test_where_nothing_can_be_linked_each_file_is_kept_twice_and_it_is_said_once(repository: Path) -> None:
    dvc(repository, "config", "cache.type", "copy")
    builder, tracking = begun(repository)
    bundle = builder.steps(1, 5).checkpoint(5).steps(6, 8).checkpoint(8).finish(8).close()
    assert [text.partition(":")[0] for text in tracking.said] == ["the file system cannot link into DVC's cache"]
    assert [fields["reason"] for fields in of_type(checked_events(bundle), "tracking.noted")] == tracking.said
    manifest = read_manifest(bundle)
    assert manifest is not None
    objects = DvcRepository(repository)
    for path, record in manifest["files"].items():
        status, copy = (bundle / path).stat(), objects.object_path(record["md5"]).stat()
        assert (status.st_nlink, copy.st_nlink, copy.st_size) == (1, 1, status.st_size)
        assert status.st_ino != copy.st_ino


def test_training_goes_on_when_dvcs_lock_is_never_free(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PATIENCE", 0.1)
    monkeypatch.setattr(background, "_LAST_PATIENCE", 0.1)
    with held(repository):
        builder, tracking = begun(repository)
        bundle = builder.steps(1, 5).checkpoint(5).finish(5).close()
    assert verify_bundle(bundle).findings == ()
    ledger = checked_events(bundle)
    (failed,) = of_type(ledger, "tracking.failed")
    assert "held DVC's lock for more than 0 s" in failed["reason"]
    assert "waiting for DVC's lock" in of_type(ledger, "tracking.noted")[0]["reason"]
    # The seal has no next time, and adds without the lock.
    assert not any("tracks demo-1 later" in text for text in tracking.said)
    assert "up to date" in dvc(repository, "status")
    assert verify_store(bundle, None).findings == ()


def test_what_waits_while_the_lock_is_held_is_one_update(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[set[str]] = []
    waits, goes_on, really = threading.Event(), threading.Event(), BundleTracker.update

    def update(tracker: BundleTracker, closed: dict[str, Any], *gone: Any) -> Tracked:
        waits.set()
        assert goes_on.wait(60)
        updates.append(set(closed))
        return really(tracker, closed, *gone)

    monkeypatch.setattr(BundleTracker, "update", update)
    builder, tracking = begun(repository)
    assert waits.wait(60)
    for step in range(1, 7):
        builder.steps(step, step).checkpoint(step)
    goes_on.set()
    tracking.finish()
    first, second = updates
    assert "run.json" in first
    assert {f"{layout.checkpoint_folder(step)}/state.json" for step in range(1, 7)} <= second
    builder.kill()


def test_a_seal_that_cannot_be_tracked_leaves_one_command(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder, tracking = begun(repository)
    builder.steps(1, 5).checkpoint(5)
    tracking.finish()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BundleTracker, "seal", full)
    bundle = builder.steps(6, 7).finish(7).close()
    assert tracking.said[-1].endswith("`dvc add runs/demo-1` tracks demo-1 later")
    dvc(repository, "add", "--quiet", "runs/demo-1")
    assert "up to date" in dvc(repository, "status")
    manifest = read_manifest(bundle)
    assert manifest is not None
    assert tracked_paths(repository) == {*manifest["files"], layout.MANIFEST}


def test_what_could_not_be_tracked_is_with_the_next_checkpoint(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_PATIENCE", 0.1)
    builder, tracking = begun(repository)
    tracking.done.get(timeout=60)
    with held(repository):
        builder.steps(1, 5).checkpoint(5)
        while "not tracked" not in tracking.told.get(timeout=60):
            pass
    builder.steps(6, 7).checkpoint(7)
    tracked = tracking.done.get(timeout=60)
    assert {layout.checkpoint_folder(step) + "/state.json" for step in (5, 7)} <= set(tracked.entries)
    builder.finish(7).close()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("whatever"), KeyError("x")])
def test_nothing_that_goes_wrong_reaches_training(
    repository: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("recorder.tracking.dvc_repository.DvcRepository.add", fail)
    builder, tracking = begun(repository)
    bundle = builder.steps(1, 5).checkpoint(5).finish(5).close()
    assert verify_bundle(bundle).findings == ()
    assert len(of_type(checked_events(bundle), "tracking.failed")) == 1
    assert len(tracking.said) == 2


@pytest.mark.parametrize(("here", "named"), [("out", "'my runs/demo-1'"), (".", "'out/my runs/demo-1'")])
def test_the_command_it_leaves_is_right_where_it_was_called(
    repository: Path, monkeypatch: pytest.MonkeyPatch, here: str, named: str
) -> None:
    builder = RunBuilder(repository / "out" / "my runs").create()
    monkeypatch.chdir(repository / here)
    monkeypatch.setattr(DvcRepository, "add", lambda *arguments: {}["x"])
    builder.run.track(tracking := Watched(repository))
    builder.close()
    assert tracking.said[-1].endswith(f"`dvc add {named}` tracks demo-1 later")
    monkeypatch.undo()
    dvc(repository / here, *shlex.split(f"add --quiet {named}"))


def test_a_killed_run_is_tracked_by_its_resume(repository: Path) -> None:
    builder, _ = begun(repository)
    builder.steps(1, 5).checkpoint(5)
    builder.steps(6, 6).drain().steps(7, 8).kill()
    resumed = builder.resume().restored(5).join()
    resumed.run.track(again := Watched(repository))
    first = again.done.get(timeout=60)
    # The ledger's segment that the kill left open is closed now.
    assert "ledger/0002.jsonl" in first.entries
    bundle = resumed.steps(6, 10).checkpoint(10).finish(10).close()
    assert "up to date" in dvc(repository, "status")
    assert verify_bundle(bundle).findings == ()


def test_a_sealed_run_that_goes_on_keeps_its_earlier_seal(repository: Path) -> None:
    builder, _ = begun(repository)
    builder.steps(1, 5).checkpoint(5)
    builder.close("interrupted")
    resumed = builder.resume().restored(5).join()
    resumed.run.track(again := Watched(repository))
    again.done.get(timeout=60)
    assert "bundle.json" not in tracked_paths(repository)
    assert layout.archived_seal(1) in tracked_paths(repository)
    resumed.steps(6, 8).checkpoint(8).finish(8).close()
    assert "up to date" in dvc(repository, "status")


def test_it_is_committed_only_when_asked(repository: Path) -> None:
    builder, _ = begun(repository, git_commit=True)
    builder.steps(1, 5).checkpoint(5).finish(5).close()
    assert git(repository, "log", "-1", "--format=%s") == "Track run demo-1\n"
    assert git(repository, "status", "--short", "--untracked-files=all") == ""


def test_dvcs_autostage_is_respected(repository: Path) -> None:
    dvc(repository, "config", "core.autostage", "true")
    builder, _ = begun(repository)
    builder.steps(1, 5).checkpoint(5).finish(5).close()
    assert "A  runs/demo-1.dvc" in git(repository, "status", "--short", "--untracked-files=all")


def test_it_is_for_repositories_and_never_makes_one(tmp_path: Path, repository: Path) -> None:
    outside = tmp_path / "outside" / "runs"
    assert open_tracking(outside, TrackingOptions("auto"), print) is None
    with pytest.raises(
        UsageError, match=r"^recorder\.dvc=true, but [^\n]*runs is in no DVC repository: run `dvc init`"
    ):
        open_tracking(outside, TrackingOptions(True), print)
    assert open_tracking(repository / "runs", TrackingOptions(False), print) is None
    assert open_tracking(repository / "runs", TrackingOptions("auto"), print) is not None
    assert not outside.exists()
    assert not (tmp_path / ".dvc").exists()


def test_without_dvc_it_is_said_or_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("recorder.tracking.dvc_repository.version", missing)
    said: list[str] = []
    assert open_tracking(repository / "runs", TrackingOptions("auto"), said.append) is None
    assert said == ["not tracked in DVC: dvc is not installed: pip install dvc==3.67.1, or set recorder.dvc=false"]
    with pytest.raises(MachineError, match="dvc is not installed"):
        open_tracking(repository / "runs", TrackingOptions(True), print)
