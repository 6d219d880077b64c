from __future__ import annotations

import json
from pathlib import Path

from helpers.commands import recorder
from helpers.dvc_repositories import digests, dvc
from test_read_back import flip
from test_store_check import MODEL, OPTIMIZER, STATE, bundle, object_in, store

from recorder.bundle.verify import verify_bundle
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
