from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.bundles import RunBuilder
from helpers.commands import recorder
from helpers.dvc_repositories import digests, dvc, tracker
from helpers.object_servers import add_s3_remote, alter_object, s3_server
from test_dvc_lock import held
from test_read_back import flip
from test_store_check import MODEL, OPTIMIZER, STATE, bundle, object_in, store

from recorder.bundle.files import FileDigest, digest_file
from recorder.bundle.manifest import bundle_files
from recorder.bundle.verify import verify_bundle
from recorder.errors import RecordingError, TrackingError
from recorder.tracking import repair
from recorder.tracking.pointer import pointer_path, read_pointer
from recorder.tracking.store_check import verify_store

__all__ = ["bundle", "store"]


def test_a_whole_bundle_is_left_alone(repository: Path, bundle: Path) -> None:
    before = {path: (bundle / path).stat() for path in digests(bundle)}
    assert recorder(repository, "repair", "demo-1").out == f"demo-1: nothing to repair, of {len(before)}\n"
    assert {path: (bundle / path).stat() for path in before} == before


def test_damaged_and_missing_files_come_from_the_remote(repository: Path, bundle: Path, store: Path) -> None:
    before = digests(bundle)
    flip(bundle / MODEL)  # and its object in the cache: it is the same file
    (bundle / STATE).unlink()
    flip(bundle / "bundle.json")
    assert not verify_bundle(bundle).ok
    done = recorder(repository, "repair", "demo-1", "--json")
    repaired = {item["path"]: item["source"] for item in json.loads(done.out)["repairs"]}
    assert repaired == {MODEL: "remote store", STATE: "the cache", "bundle.json": "remote store"}
    assert done.code == 0
    assert digests(bundle) == before
    assert verify_bundle(bundle).findings == ()
    assert verify_store(bundle, None).ok
    assert "up to date" in dvc(repository, "status")


def test_the_cache_is_mended_from_the_bundle(repository: Path, bundle: Path) -> None:
    cache = repository / ".dvc/cache/files/md5"
    object_in(cache, bundle, MODEL).unlink()
    pointer = read_pointer(pointer_path(bundle))
    assert pointer is not None
    done = recorder(repository, "repair", "demo-1")
    assert done.code == 0
    assert f"{MODEL}: the cache has not its object" in done.out
    assert verify_store(bundle, None).ok


def test_the_list_is_mended_from_the_remote(repository: Path, bundle: Path, store: Path) -> None:
    pointer = read_pointer(pointer_path(bundle))
    assert pointer is not None
    flip(repository / ".dvc/cache/files/md5" / pointer.object[:2] / pointer.object[2:])
    assert recorder(repository, "repair", "demo-1").code == 0
    assert verify_store(bundle, None).ok


def test_a_bad_copy_is_not_used(repository: Path, bundle: Path, store: Path) -> None:
    flip(bundle / MODEL)
    flip(object_in(store, bundle, OPTIMIZER))
    damaged = (bundle / MODEL).read_bytes()
    known = verify_store(bundle, "store")
    assert [finding.file for finding in known.findings] == [OPTIMIZER]
    for copy in store.glob("??/*"):
        if copy.stat().st_size == len(damaged):
            flip(copy)
    done = recorder(repository, "repair", "demo-1")
    assert done.code == 1
    assert f"{MODEL}: it was changed" in done.out
    assert "no good copy anywhere" in done.out
    assert (bundle / MODEL).read_bytes() == damaged


def test_from_s3_and_not_what_the_server_corrupted(repository: Path, bundle: Path, tmp_path: Path) -> None:
    known, model, optimizer = digests(bundle), (bundle / MODEL).read_bytes(), (bundle / OPTIMIZER).read_bytes()
    with s3_server(tmp_path / "server.log") as port:
        add_s3_remote(repository, port)
        dvc(repository, "push", "--quiet")
        alter_object(port, known[OPTIMIZER].md5, optimizer[:-1] + bytes([optimizer[-1] ^ 1]))
        flip(bundle / MODEL)
        flip(bundle / OPTIMIZER)
        done = recorder(repository, "repair", "demo-1", "--json")
    assert done.code == 1
    repaired = {item["path"]: item["source"] for item in json.loads(done.out)["repairs"]}
    assert repaired == {MODEL: "remote store", OPTIMIZER: None}
    assert (bundle / MODEL).read_bytes() == model
    assert (bundle / OPTIMIZER).read_bytes() != optimizer


def test_a_bundle_that_went_on_untracked_is_left_alone(repository: Path, store: Path, bundle: Path) -> None:
    builder = RunBuilder(bundle.parent)
    builder.resume().restored(12).join().steps(13, 14).checkpoint(14)
    open_now = digests_of_all(bundle)
    # While it is written, and killed: the earlier seal must not come back.
    refused = recorder(repository, "repair", "demo-1")
    assert refused.code == 2
    assert "run demo-1 is still being written by process" in refused.err
    builder.kill()
    assert recorder(repository, "repair", "demo-1").code == 2
    assert digests_of_all(bundle) == open_now
    builder.resume().restored(14).join().finish(14).close()
    before = digests(bundle)
    done = recorder(repository, "repair", "demo-1")
    assert done.code == 2
    assert "demo-1.dvc is older than the bundle beside it, which has another seal: nothing was repaired" in done.err
    assert digests(bundle) == before
    dvc(repository, "add", "--quiet", "runs/demo-1")
    assert recorder(repository, "repair", "demo-1").code == 0


def test_a_run_that_was_tracked_open_and_sealed_elsewise_is_left_alone(repository: Path) -> None:
    builder = RunBuilder(repository / "runs").create().join()
    tracker(repository, builder.path).update(digests_of_all(builder.path))
    bundle = builder.finish(0).close()
    before = digests(bundle)
    assert recorder(repository, "repair", "demo-1").code == 2
    assert digests(bundle) == before


def test_it_waits_for_dvc_and_says_so(repository: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "_PATIENCE", 0)
    said: list[str] = []
    with held(repository), pytest.raises(TrackingError, match="held DVC's lock"):
        repair.repair_run(bundle, None, said.append)
    assert said[0].startswith("waiting for DVC's lock")


def test_a_cache_that_takes_nothing_is_one_line(
    repository: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    object_in(repository / ".dvc/cache/files/md5", bundle, MODEL).unlink()
    monkeypatch.setattr("recorder.tracking.dvc_repository.place", full)
    with pytest.raises(
        RecordingError, match=r"^cannot write [^\n]*/files/md5/[^\n]*: the disk is full; free some space$"
    ):
        repair.repair_run(bundle, None, print)


def digests_of_all(bundle: Path) -> dict[str, FileDigest]:
    """Those of an open bundle."""
    return {path: digest_file(bundle / path) for path in bundle_files(bundle)}
