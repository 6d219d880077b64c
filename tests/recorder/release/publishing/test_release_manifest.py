from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.canonical import digest_json, readable_json
from recorder.errors import BundleError
from recorder.release.manifest import (
    FileRecord,
    Release,
    build_release,
    is_plain_path,
    parse_release,
    record_blocks,
    record_file,
)

RECORD = FileRecord(1, "a" * 64, "b" * 64)
RUN = {"id": "demo-1", "root": "c" * 64, "state": "sealed", "outcome": "finished"}


def release(**files: FileRecord) -> Release:
    named = {name.replace("_", "/"): record for name, record in files.items()}
    return build_release(named, runs=[RUN], created="2026", withheld=[], allowed=[], as_is=False, signed=None)


def edited(**changes: Any) -> bytes:
    """A release.json with other values, and the root that belongs to them."""
    document = {key: value for key, value in release(a=RECORD).document.items() if key != "root"} | changes
    return readable_json(document | {"root": digest_json(document)})


def test_what_was_built_is_read_back() -> None:
    built = release(runs_a=RECORD, b=RECORD)
    assert parse_release(built.data(), "here") == built
    assert built.runs == {"demo-1": "c" * 64}


@pytest.mark.parametrize("position", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_any_edited_byte_is_named(position: float) -> None:
    data = bytearray(release(a=RECORD).data())
    data[int(len(data) * position)] ^= 1
    with pytest.raises(BundleError, match=r"release\.json of here"):
        parse_release(bytes(data), "here")


@pytest.mark.parametrize(("before", "after"), [(b'"size": 1', b'"size": 2'), (b"2026", b"2027"), (b"aaaa", b"baaa")])
def test_an_edit_that_keeps_the_form_does_not_fit_the_root(before: bytes, after: bytes) -> None:
    data = release(a=RECORD).data()
    assert before in data
    with pytest.raises(BundleError, match="does not match its own root"):
        parse_release(data.replace(before, after, 1), "here")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"files": {"../a": vars(RECORD)}}, "names a file that no release can have: '../a'"),
        ({"files": {"/etc/a": vars(RECORD)}}, "names a file that no release can have"),
        ({"files": {"model.sig": vars(RECORD)}}, "names a file that no release can have"),
        ({"runs": [RUN | {"id": "../x"}]}, "names a run that cannot be"),
        ({"version": 2}, "this reader knows 1: install a newer"),
        ({"format": "other"}, "is not of a release"),
        ({"runs": []}, "runs must contain at least 1 items"),
        ({"files": {"a": {"size": -1, "sha256": "a", "blake3": "b"}}}, "is damaged"),
    ],
)
def test_what_no_release_has_is_refused_although_the_root_fits(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BundleError, match=told):
        parse_release(edited(**changes), "here")


@given(st.text(max_size=20))
def test_a_plain_path_stays_below_its_folder(path: str) -> None:
    if is_plain_path(path):
        base = Path("/base/folder")
        assert (base / path).resolve().is_relative_to(base)
        assert (base / path).resolve() != base


@pytest.mark.parametrize("path", ["", ".", "/a", "a/../b", "..", "a//b", "./a", "a/", "a\\b", "a\nb"])
def test_other_paths_are_not_plain(path: str) -> None:
    assert not is_plain_path(path)


def test_a_file_has_one_record_however_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 9000)
    assert record_file(path) == record_blocks([path.read_bytes()[:7], path.read_bytes()[7:]])
