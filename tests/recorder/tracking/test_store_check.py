from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from helpers.bundles import finished
from helpers.commands import recorder
from helpers.dvc_repositories import digests, dvc, tracker
from helpers.object_servers import Wire, add_s3_remote, alter_object, s3_server
from test_read_back import flip

from recorder.bundle.files import digest_file
from recorder.bundle.findings import Report
from recorder.errors import TrackingError, UsageError
from recorder.tracking.pointer import pointer_path, read_pointer
from recorder.tracking.store_check import verify_store

MODEL = "checkpoints/step-00000012/model.safetensors"
OPTIMIZER = "checkpoints/step-00000012/optimizer.safetensors"
STATE = "checkpoints/step-00000012/state.json"


@pytest.fixture
def bundle(repository: Path) -> Path:
    """A sealed bundle in the cache."""
    bundle = finished(repository / "runs")
    ours = tracker(repository, bundle)
    ours.prepare_folder()
    ours.seal(digests(bundle))
    return bundle


@pytest.fixture
def store(repository: Path, bundle: Path, tmp_path: Path) -> Path:
    """A remote in a folder that has it all."""
    dvc(repository, "remote", "add", "--default", "store", str(tmp_path / "store"))
    dvc(repository, "push", "--quiet")
    return tmp_path / "store" / "files" / "md5"


def object_in(store: Path, bundle: Path, path: str) -> Path:
    md5 = digests(bundle)[path].md5
    return store / md5[:2] / md5[2:]


def found(report: Report) -> list[tuple[str, str]]:
    return sorted((finding.file, finding.kind) for finding in report.findings)


def test_a_whole_remote_and_cache_are_consistent(bundle: Path, store: Path) -> None:
    for remote in ("store", None):
        report = verify_store(bundle, remote)
        assert (report.ok, report.counts["files"]) == (True, len(digests(bundle)))
    assert not any("named by no .dvc file" in note for note in report.notes)


def test_altered_truncated_and_missing_objects_are_named_by_their_path(bundle: Path, store: Path) -> None:
    flip(object_in(store, bundle, MODEL))
    cut = object_in(store, bundle, OPTIMIZER)
    cut.chmod(0o644)
    cut.write_bytes(cut.read_bytes()[:-1])
    object_in(store, bundle, STATE).unlink()
    report = verify_store(bundle, "store")
    assert found(report) == [(MODEL, "digest"), (OPTIMIZER, "digest"), (STATE, "missing")]
    reasons = {finding.file: finding.reason for finding in report.findings}
    assert "was altered" in reasons[MODEL]
    assert "bytes instead of" in reasons[OPTIMIZER]
    assert verify_store(bundle, None).ok


def test_the_list_itself_is_checked(bundle: Path, store: Path) -> None:
    pointer = read_pointer(pointer_path(bundle))
    assert pointer is not None
    flip(store / pointer.object[:2] / pointer.object[2:])
    assert found(verify_store(bundle, "store")) == [("demo-1.dvc", "digest")]


def test_what_dvc_tracks_beyond_the_manifest_is_extra_and_below_it_missing(repository: Path, bundle: Path) -> None:
    (bundle / "notes.txt").write_text("added later")
    ours = tracker(repository, bundle)
    ours.update({"notes.txt": digests(bundle)["notes.txt"]}, [STATE])
    assert found(verify_store(bundle, None)) == [(STATE, "missing"), ("notes.txt", "extra")]


def test_what_nothing_names_is_a_note(bundle: Path, store: Path) -> None:
    (store / "00").mkdir(exist_ok=True)
    (store / "00" / ("0" * 30)).write_bytes(b"left behind")
    report = verify_store(bundle, "store")
    assert report.ok
    assert "1 objects there are named by no .dvc file of this working tree" in report.notes


def test_an_altered_manifest_is_found_and_another_one_used(bundle: Path, store: Path) -> None:
    flip(object_in(store, bundle, "bundle.json"))
    flip(object_in(store, bundle, MODEL))
    assert found(verify_store(bundle, "store")) == [("bundle.json", "digest"), (MODEL, "digest")]


def test_over_s3_what_the_server_corrupts_is_found(repository: Path, bundle: Path, tmp_path: Path) -> None:
    with s3_server(tmp_path / "server.log") as port:
        wire = Wire(port)
        add_s3_remote(repository, wire.port)
        dvc(repository, "push", "--quiet")
        assert verify_store(bundle, "store").ok
        data = bytearray((bundle / MODEL).read_bytes())
        data[-1] ^= 1
        known = digests(bundle)
        alter_object(port, known[MODEL].md5, bytes(data))
        alter_object(port, known[OPTIMIZER].md5, b"short")
        alter_object(port, known[STATE].md5, None)
        assert found(verify_store(bundle, "store")) == [(MODEL, "digest"), (OPTIMIZER, "digest"), (STATE, "missing")]
        wire.cut()
        with pytest.raises(TrackingError, match=r"^remote store: [^\n]*$"):
            verify_store(bundle, "store")
        wire.close()


def test_memory_is_bounded_however_big_an_object_is(repository: Path, bundle: Path) -> None:
    big = bundle / "big"
    with big.open("wb") as file:
        file.truncate(200_000_000)
    tracker(repository, bundle).update({"big": digest_file(big)})
    tracemalloc.start()
    try:
        assert found(verify_store(bundle, None)) == [("big", "extra")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64e6


def test_the_command_and_its_exit_codes(repository: Path, bundle: Path, store: Path) -> None:
    assert recorder(repository, "verify", "demo-1", "--cache").code == 0
    flip(object_in(store, bundle, MODEL))
    done = recorder(repository, "verify", "demo-1", "--remote", "store", "--json")
    report = json.loads(done.out)
    assert (done.code, report["ok"], report["findings"][0]["file"]) == (1, False, MODEL)
    assert recorder(repository, "verify", "demo-1", "--remote", "stroe").code == 2
    assert recorder(repository, "verify", "demo-1", "--remote", "store", "--cache").code == 2


def test_what_is_not_tracked_is_wrong_use(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^demo-2 is not tracked: there is no demo-2\.dvc beside it$"):
        verify_store(finished(repository / "runs", "demo-2"), None)
    with pytest.raises(UsageError, match="is in no DVC repository"):
        verify_store(finished(tmp_path / "elsewhere"), None)
