from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.bundles import RunBuilder, finished
from helpers.dvc_repositories import digests, dvc
from helpers.recording import checked_events, of_type
from test_background import Watched, tracked_paths

from recorder.bundle import layout
from recorder.bundle.files import FileDigest, digest_file
from recorder.bundle.manifest import read_manifest
from recorder.bundle.read_back import ReadBackNotes
from recorder.bundle.verify import verify_bundle
from recorder.tracking.read_back import ReadBack
from recorder.tracking.store_check import verify_store


def flip(path: Path) -> None:
    """Change one byte and nothing else that is seen from outside."""
    status = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    path.chmod(status.st_mode)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return finished(tmp_path / "runs")


def read_back(bundle: Path, cache: Path, files: dict[str, FileDigest]) -> list[tuple[str, str, str]]:
    """What is damaged of `files`, whose objects are in `cache`."""
    found: list[tuple[str, str, str]] = []
    reading = ReadBack(bundle, lambda md5: cache / md5, lambda *what: found.append(what))
    reading.add(files)
    reading.finish(60)
    return found


def linked(bundle: Path, cache: Path, copy: bool = False) -> dict[str, FileDigest]:
    """A cache with the bundle's files."""
    files = digests(bundle)
    cache.mkdir()
    for path, digest in files.items():
        if not (cache / digest.md5).exists():
            if copy:
                shutil.copyfile(bundle / path, cache / digest.md5)
            else:
                (cache / digest.md5).hardlink_to(bundle / path)
    return files


def test_verify_knows_what_was_checked(bundle: Path, tmp_path: Path) -> None:
    files = linked(bundle, tmp_path / "cache")
    assert "read_back" not in verify_bundle(bundle).counts
    some = dict(sorted(files.items())[:3])
    assert read_back(bundle, tmp_path / "cache", some) == []
    manifest = read_manifest(bundle)
    assert manifest is not None
    report = verify_bundle(bundle)
    checked = len(some.keys() & manifest["files"].keys())
    assert report.counts["read_back"] == checked
    note = (
        f"{checked} of {len(manifest['files'])} files, and their objects in DVC's cache, were read back after writing"
    )
    assert note in report.notes
    assert report.findings == ()


def test_a_changed_byte_is_found_in_the_bundle_and_in_the_cache(bundle: Path, tmp_path: Path) -> None:
    files = linked(bundle, tmp_path / "cache", copy=True)
    model, state = (f"checkpoints/step-00000012/{name}" for name in ("model.safetensors", "state.json"))
    flip(tmp_path / "cache" / files[model].md5)
    flip(bundle / state)
    found = read_back(bundle, tmp_path / "cache", files)
    assert sorted((path, place) for path, place, _ in found) == [(model, "cache"), (state, "bundle")]
    assert f"instead of {files[model].md5}" in next(reason for path, _, reason in found if path == model)
    manifest = read_manifest(bundle)
    assert manifest is not None
    assert ReadBackNotes(bundle).matching(manifest["files"]) == manifest["files"].keys() - {model, state}


def test_a_file_that_is_another_one_by_now_was_not_checked(bundle: Path, tmp_path: Path) -> None:
    files = linked(bundle, tmp_path / "cache")
    read_back(bundle, tmp_path / "cache", files)
    data = (bundle / "run.json").read_bytes()
    (bundle / "run.json").unlink()
    (bundle / "run.json").write_bytes(data)
    records = {path: digest.record() for path, digest in files.items()}
    assert ReadBackNotes(bundle).matching(records) == files.keys() - {"run.json"}


def test_what_is_gone_is_passed_over(bundle: Path, tmp_path: Path) -> None:
    files = linked(bundle, tmp_path / "cache")
    (tmp_path / "cache" / files["run.json"].md5).unlink()
    missing = {"gone": digest_file(bundle / "run.json"), "run.json": files["run.json"]}
    assert read_back(bundle, tmp_path / "cache", missing) == []
    assert not ReadBackNotes(bundle).exist()


def test_there_is_no_time_left(bundle: Path, tmp_path: Path) -> None:
    """The end of a run does not wait for a big file."""
    files = linked(bundle, tmp_path / "cache")
    reading = ReadBack(bundle, lambda md5: tmp_path / "cache" / md5, print, rate=1.0)
    reading.add(files)
    reading.finish(0)
    assert len(ReadBackNotes(bundle).matching({path: digest.record() for path, digest in files.items()})) < len(files)


def test_everything_else_goes_first(bundle: Path, tmp_path: Path) -> None:
    """The reading thread has the lowest priority for processor and disk, the others keep theirs."""
    files = linked(bundle, tmp_path / "cache")
    flip(bundle / "run.json")
    found: list[tuple[int, int]] = []

    def look(*_what: str) -> None:
        thread = threading.get_native_id()
        found.append((os.getpriority(os.PRIO_PROCESS, thread), psutil.Process(thread).ionice().ioclass))

    reading = ReadBack(bundle, lambda md5: tmp_path / "cache" / md5, look)
    reading.add({"run.json": files["run.json"]})
    reading.finish(60)
    assert found == [(19, psutil.IOPRIO_CLASS_IDLE)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < 19


def test_torn_notes_are_no_notes(bundle: Path, tmp_path: Path) -> None:
    files = linked(bundle, tmp_path / "cache")
    read_back(bundle, tmp_path / "cache", {"run.json": files["run.json"]})
    with ReadBackNotes(bundle).path.open("a") as file:
        file.write('{"path": "x"}\n[]\n3\n{"path": ')
    assert verify_bundle(bundle).counts["read_back"] == 1


def test_a_run_reads_back_what_it_tracks_and_damage_is_an_event(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recorder.tracking import bundle_tracker

    really = bundle_tracker.BundleTracker.update

    def then_damage(self: Any, closed: Any, *gone: Any) -> Any:
        tracked = really(self, closed, *gone)
        for path in tracked.entries:
            if path.endswith("step-00000005/model.safetensors"):
                flip(self.bundle / path)
        return tracked

    monkeypatch.setattr(bundle_tracker.BundleTracker, "update", then_damage)
    builder = RunBuilder(repository / "runs").create().join()
    builder.run.track(tracking := Watched(repository))
    builder.steps(1, 5).checkpoint(5)
    while "DAMAGED" not in tracking.told.get(timeout=60):
        pass
    bundle = builder.finish(5).close()
    (damaged,) = of_type(checked_events(bundle), "object.damaged")
    assert (damaged["path"], damaged["place"]) == ("checkpoints/step-00000005/model.safetensors", "bundle")
    report = verify_bundle(bundle)
    assert not report.ok
    assert report.counts["read_back"] == report.counts["files"] - 1


def test_a_damaged_checkpoint_that_is_saved_again_is_tracked(repository: Path) -> None:
    builder = RunBuilder(repository / "runs").create().join()
    builder.run.track(first := Watched(repository))
    builder.steps(1, 5).checkpoint(5)
    first.finish()
    folder = layout.checkpoint_folder(5)
    builder.kill()
    flip(builder.path / folder / "model.safetensors")
    resumed = builder.resume().join()
    resumed.run.track(again := Watched(repository))
    aside = f"{folder}.damaged"
    resumed.run.event("checkpoint.removed", step=5, path=folder, reason="damaged: a test", kept_as=aside)
    resumed.steps(1, 5).checkpoint(5)
    again.finish()
    assert {f"{folder}/model.safetensors", f"{folder}/state.json"} <= tracked_paths(repository)
    bundle = resumed.finish(5).close()
    assert verify_store(bundle, None).findings == ()
    assert "up to date" in dvc(repository, "status")
