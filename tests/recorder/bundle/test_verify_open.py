"""Bundles without a seal: those of killed runs, and those that are being written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.bundles import RunBuilder
from helpers.tampering import edit_event, overwrite

from recorder.bundle import layout
from recorder.bundle.findings import Finding
from recorder.bundle.verify import verify_bundle

Copy = Callable[[str], Path]


def test_a_killed_run_is_checked_as_far_as_it_goes(made: dict[str, Path]) -> None:
    report = verify_bundle(made["killed"])
    assert (report.ok, report.state, report.root) == (True, "open", None)
    assert any("no seal" in note for note in report.notes)
    assert report.counts["steps"] == 6


def test_digests_alone_say_nothing_about_a_killed_run(made: dict[str, Path]) -> None:
    report = verify_bundle(made["killed"], quick=True)
    assert report.ok
    assert "no seal" in report.notes[0]


@pytest.mark.parametrize("name", ["ledger/0002.jsonl", "metrics/0002.jsonl", "logs/0001/rank-0.log"])
def test_a_torn_end_is_a_finding_with_its_size(copy_of: Copy, name: str) -> None:
    path = copy_of("killed")
    target = path / name
    whole = target.read_bytes() if target.exists() else b""
    overwrite(target, whole + b'{"half')
    findings = verify_bundle(path).findings
    assert [(finding.file, finding.kind) for finding in findings] == [(name, "torn")]
    assert "6 bytes" in findings[0].reason


def test_an_edited_row_of_an_open_segment_breaks_its_chain(copy_of: Copy) -> None:
    path = copy_of("killed")
    segment = layout.segments(path, layout.METRICS)[-1]
    assert segment.suffix == ".jsonl"
    overwrite(segment, segment.read_bytes().replace(b'"tokens":384', b'"tokens":385'))
    assert [finding.kind for finding in verify_bundle(path).findings] == ["chain"]


def test_a_changed_closed_segment_of_an_open_bundle_is_found_by_its_event(copy_of: Copy) -> None:
    path = copy_of("killed")
    segment = path / layout.closed_series(layout.METRICS, 1)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(segment, bytes(data))
    assert segment.relative_to(path).as_posix() in {finding.file for finding in verify_bundle(path).findings}


def test_an_edited_event_of_an_open_bundle_breaks_the_chain(copy_of: Copy) -> None:
    path = copy_of("killed")
    file = edit_event(path, "worker.joined", lambda fields: fields.update(pid=1))
    assert Finding(file, "line 4: its hash does not match its content", "chain") in verify_bundle(path).findings


def test_what_is_being_written_may_end_anywhere(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 3).drain()
    ledger = builder.path / layout.ledger_segment(1)
    handle = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(handle, b'{"half')
    report = verify_bundle(builder.path)
    assert (report.state, report.findings) == ("running", ())
    builder.kill()
    assert [finding.kind for finding in verify_bundle(builder.path).findings] == ["torn"]
    os.close(handle)


def test_a_run_that_never_began_is_no_bundle_of_findings(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create()
    builder.kill()
    for path in layout.segments(builder.path, layout.LEDGER):
        path.unlink()
    kinds = {finding.kind for finding in verify_bundle(builder.path).findings}
    assert kinds <= {"missing"}
