from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import layout
from recorder.bundle.files import digest_file, write_file
from recorder.bundle.manifest import (
    archive_manifest,
    build_manifest,
    bundle_files,
    manifest_root,
    parse_manifest,
    previous_root,
    read_manifest,
    write_manifest,
)
from recorder.canonical import digest_json, readable_json
from recorder.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "demo"
    write_file(path / layout.RUN, readable_json({"id": "demo"}))
    for name in ("ledger/0001.jsonl", "metrics/0001.parquet", "metrics/0002.jsonl", "config/resolved.yaml"):
        write_file(path / name, name.encode())
    return path


def seal(bundle: Path, root: str | None = None, **known: Any) -> dict[str, Any]:
    manifest = build_manifest(bundle, outcome="finished", sealed="now", known=known, previous_root=root)
    write_manifest(bundle, manifest)
    return manifest


def test_every_file_is_in_it_but_itself(bundle: Path) -> None:
    manifest = seal(bundle)
    assert read_manifest(bundle) == manifest
    assert list(manifest["files"]) == bundle_files(bundle) == sorted(manifest["files"])
    assert layout.MANIFEST not in manifest["files"]
    assert manifest["files"]["ledger/0001.jsonl"] == digest_file(bundle / "ledger/0001.jsonl").record()
    assert manifest["segments"] == {
        "ledger": ["ledger/0001.jsonl"],
        "metrics": ["metrics/0001.parquet", "metrics/0002.jsonl"],
        "system": [],
    }
    assert manifest["root"] == manifest_root(manifest)
    assert manifest["root"] == digest_json({key: value for key, value in manifest.items() if key != "root"})
    assert (bundle / layout.MANIFEST).stat().st_mode & 0o222 == 0


def test_digests_taken_while_writing_are_not_taken_again(bundle: Path) -> None:
    as_written = digest_file(bundle / "ledger/0001.jsonl")
    (bundle / "ledger/0001.jsonl").write_bytes(b"changed since")
    manifest = seal(bundle, **{"ledger/0001.jsonl": as_written})
    assert manifest["files"]["ledger/0001.jsonl"] == as_written.record()


def test_an_open_bundle_has_none(bundle: Path) -> None:
    assert read_manifest(bundle) is None
    assert not archive_manifest(bundle)
    assert previous_root(bundle) is None


def test_a_seal_moves_to_the_addenda_and_is_named_by_the_next(bundle: Path) -> None:
    first = seal(bundle)
    assert archive_manifest(bundle)
    assert read_manifest(bundle) is None
    assert json.loads((bundle / layout.archived_seal(1)).read_bytes()) == first
    second = seal(bundle, previous_root(bundle))
    assert second["previous_root"] == first["root"]
    assert layout.archived_seal(1) in second["files"]
    assert archive_manifest(bundle)
    assert previous_root(bundle) == second["root"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda manifest: manifest | {"outcome": "failed"}, "does not match its own root"),
        (lambda manifest: manifest | {"root": "00" * 32}, "does not match its own root"),
        (lambda manifest: manifest | {"format": 2}, "has format 2, this reader knows 1 to 1"),
        (lambda manifest: {key: value for key, value in manifest.items() if key != "root"}, "does not match its own"),
    ],
)
def test_an_edited_manifest_is_refused(bundle: Path, change: Any, words: str) -> None:
    with pytest.raises(BundleError, match=rf"bundle\.json {words}"):
        parse_manifest(readable_json(change(seal(bundle))), layout.MANIFEST)


@pytest.mark.parametrize("data", [b"", b"[]\n", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json is damaged"):
        parse_manifest(data, layout.MANIFEST)


def test_other_white_space_is_an_edit(bundle: Path) -> None:
    with pytest.raises(BundleError, match="is not in canonical form"):
        parse_manifest(json.dumps(seal(bundle)).encode(), layout.MANIFEST)
