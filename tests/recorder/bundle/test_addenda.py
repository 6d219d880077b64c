"""Addenda are one chain from the seal on, whatever kinds they are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tampering import overwrite

from recorder.bundle import layout
from recorder.bundle.addenda import CERTIFICATE, LATE_SPOOL, append_addendum, read_addenda
from recorder.bundle.files import digest_file
from recorder.bundle.manifest import read_manifest
from recorder.bundle.verify import verify_bundle
from recorder.canonical import digest
from recorder.errors import BundleError
from recorder.run import Run

CopyOf = Callable[[str], Path]
SPOOL = "addenda/late/rank-1.0.spool"


def with_addenda(bundle: Path) -> Path:
    overwrite_new(bundle / SPOOL, b'{"k":"log"}\n')
    files = {SPOOL: digest_file(bundle / SPOOL)}
    append_addendum(bundle, LATE_SPOOL, {"attempt": 1, "origin": "rank-1"}, files, clock=lambda: 1.0)
    append_addendum(bundle, CERTIFICATE, {"subject": "audit", "result": "equal"}, clock=lambda: 2.0)
    append_addendum(bundle, "remark", {"text": "a kind that nobody knows yet"}, clock=lambda: 3.0)
    return bundle


def overwrite_new(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def kinds(bundle: Path) -> set[str]:
    return {finding.kind for finding in verify_bundle(bundle).findings}


@pytest.mark.parametrize("kind", ["finished", "killed", "continued"])
def test_addenda_of_every_kind_are_accepted(kind: str, copy_of: CopyOf) -> None:
    bundle = copy_of(kind)
    start = read_manifest(bundle)
    with_addenda(bundle)
    assert verify_bundle(bundle).findings == ()
    addenda = read_addenda(bundle)
    assert [addendum.record["number"] for addendum in addenda] == [1, 2, 3]
    assert addenda[0].record["previous"] == (start["root"] if start else digest((bundle / layout.RUN).read_bytes()))
    assert [later.record["previous"] for later in addenda[1:]] == [earlier.record["hash"] for earlier in addenda[:2]]


@pytest.mark.parametrize("name", ["0001-late-spool.json", "0002-certificate.json"])
def test_a_missing_or_damaged_addendum_is_a_finding(name: str, copy_of: CopyOf) -> None:
    for change in (lambda path: path.unlink(), lambda path: overwrite(path, path.read_bytes().replace(b"1", b"2", 1))):
        bundle = with_addenda(copy_of("finished"))
        change(bundle / "addenda" / name)
        assert "addendum" in kinds(bundle)


def test_what_came_with_an_addendum_is_held_against_it(copy_of: CopyOf) -> None:
    bundle = with_addenda(copy_of("finished"))
    overwrite(bundle / SPOOL, b"other")
    assert kinds(bundle) == {"addendum"}
    (bundle / SPOOL).unlink()
    assert kinds(bundle) == {"missing"}


def test_a_file_beside_the_addenda_that_none_of_them_names_is_a_finding(copy_of: CopyOf) -> None:
    bundle = with_addenda(copy_of("finished"))
    overwrite_new(bundle / "addenda/late/more.spool", b"")
    assert kinds(bundle) == {"extra"}


def test_an_addendum_that_is_no_json_is_named(copy_of: CopyOf) -> None:
    bundle = with_addenda(copy_of("finished"))
    overwrite(bundle / "addenda/0002-certificate.json", b"{")
    with pytest.raises(BundleError, match="addenda/0002-certificate.json is damaged"):
        read_addenda(bundle)
    assert "addenda/0002-certificate.json" in {finding.file for finding in verify_bundle(bundle).findings}


def test_a_run_with_addenda_can_be_resumed_and_sealed_again(copy_of: CopyOf) -> None:
    bundle = with_addenda(copy_of("continued"))
    run = Run.resume(bundle, spools=bundle.parent.parent / "spools")
    run.begin_attempt()
    run.close("interrupted")
    append_addendum(bundle, CERTIFICATE, {"subject": "audit", "result": "equal"})
    report = verify_bundle(bundle)
    assert [finding for finding in report.findings if finding.kind in {"addendum", "extra", "seal", "missing"}] == []
    assert len(read_addenda(bundle)) == 4
