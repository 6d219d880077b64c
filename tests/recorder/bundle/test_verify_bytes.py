"""Any change to any byte of a sealed bundle is found, and none makes the reader fall over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tampering import edit_event, flip, make_pipe, overwrite, rechain_ledger, rechain_segment, reseal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.bundle import layout
from recorder.bundle.manifest import bundle_files
from recorder.bundle.verify import verify_bundle

Copy = Callable[[str], Path]

KINDS = ["finished", "failed", "killed", "resumed", "continued"]


def kinds_of(path: Path, quick: bool = False) -> set[str]:
    return {finding.kind for finding in verify_bundle(path, quick=quick).findings}


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_touched_is_consistent(kind: str, made: dict[str, Path]) -> None:
    report = verify_bundle(made[kind])
    assert report.findings == ()
    assert report.ok
    assert not report.anchored


@pytest.mark.parametrize("kind", ["finished", "resumed", "continued"])
def test_a_flipped_bit_in_any_file_is_found_with_and_without_a_look_inside(kind: str, copy_of: Copy) -> None:
    path = copy_of(kind)
    for name in bundle_files(path):
        file = path / name
        data = file.read_bytes()
        for offset in sorted({0, len(data) // 3, len(data) // 2, len(data) - 1} & set(range(len(data)))):
            flip(file, offset, offset % 8)
            for quick in (True, False):
                report = verify_bundle(path, quick=quick)
                assert not report.ok
                assert name in {finding.file for finding in report.findings}
            overwrite(file, data)
    assert verify_bundle(path).ok


def test_a_flipped_bit_anywhere_in_the_manifest_is_found(copy_of: Copy) -> None:
    manifest = copy_of("failed") / layout.MANIFEST
    data = manifest.read_bytes()
    for offset in range(len(data)):
        flip(manifest, offset, offset % 8)
        assert "manifest" in kinds_of(manifest.parent, quick=True), f"offset {offset}"
        overwrite(manifest, data)


@pytest.mark.parametrize("kind", ["finished", "resumed", "continued"])
def test_a_flipped_bit_is_found_even_when_the_manifest_was_made_anew(kind: str, copy_of: Copy) -> None:
    path = copy_of(kind)
    sealed = (path / layout.MANIFEST).read_bytes()
    for name in bundle_files(path):
        file = path / name
        data = file.read_bytes()
        for offset in sorted({1, len(data) // 2, len(data) - 2} & set(range(len(data)))):
            flip(file, offset, offset % 7)
            reseal(path)
            assert not verify_bundle(path).ok, (name, offset)
            overwrite(file, data)
    overwrite(path / layout.MANIFEST, sealed)
    assert verify_bundle(path).ok


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_garbage_makes_the_reader_fall_over(data: st.DataObject, made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "garbage"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(made["continued"], path)
    file = path / data.draw(st.sampled_from(bundle_files(path)))
    content = file.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, len(content) - start))
    overwrite(file, content[:start] + data.draw(st.binary(max_size=40)) + content[start + length :])
    changed = file.read_bytes() != content
    if data.draw(st.booleans()):
        reseal(path)
    assert verify_bundle(path).ok != changed


def test_changes_of_length_are_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    for name in [*bundle_files(path), layout.MANIFEST]:
        file = path / name
        data = file.read_bytes()
        for changed in (data[:-1], data + b"\n", b""):
            if changed == data:
                continue
            overwrite(file, changed)
            assert not verify_bundle(path).ok, name
            overwrite(file, data)


def test_files_that_come_or_go_are_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    (path / "logs/extra.log").write_bytes(b"")
    (path / layout.SOURCE).unlink()
    found = {(finding.file, finding.kind) for finding in verify_bundle(path, quick=True).findings}
    assert found == {("logs/extra.log", "extra"), (layout.SOURCE, "missing")}


def test_swapped_files_are_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    first, second = (path / layout.closed_series(layout.METRICS, number) for number in (1, 2))
    one, other = first.read_bytes(), second.read_bytes()
    overwrite(first, other)
    overwrite(second, one)
    assert {finding.file for finding in verify_bundle(path, quick=True).findings} == {
        layout.closed_series(layout.METRICS, number) for number in (1, 2)
    }
    reseal(path)
    assert {"chain", "event"} <= kinds_of(path)


def test_swapped_checkpoints_are_found_when_the_manifest_was_made_anew(copy_of: Copy) -> None:
    path = copy_of("finished")
    aside = path / "checkpoints/aside"
    first, second = (path / layout.checkpoint_folder(step) for step in (10, 12))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    reseal(path)
    assert "checkpoint" in kinds_of(path)


def test_links_and_pipes_are_found_and_never_opened(copy_of: Copy, tmp_path: Path) -> None:
    path = copy_of("finished")
    outside = tmp_path / "outside"
    outside.write_bytes((path / layout.RUN).read_bytes())
    (path / layout.RUN).unlink()
    (path / layout.RUN).symlink_to(outside)
    (path / "logs/0001/rank-9.log").symlink_to(tmp_path, target_is_directory=True)
    make_pipe(path / "metrics/0009.jsonl")
    for quick in (True, False):
        links = [finding.file for finding in verify_bundle(path, quick=quick).findings if finding.kind == "link"]
        assert sorted(links) == ["logs/0001/rank-9.log", "metrics/0009.jsonl", layout.RUN]


def test_an_edited_event_is_found_by_the_chain_whoever_made_the_manifest_anew(copy_of: Copy) -> None:
    for rehash in (False, True):
        path = copy_of("finished")
        file = edit_event(path, "worker.joined", lambda fields: fields.update(host="elsewhere"), rehash)
        reseal(path)
        found = {(finding.file, finding.kind) for finding in verify_bundle(path).findings}
        assert (file, "chain") in found


def test_a_ledger_rewritten_without_its_files_is_found(copy_of: Copy) -> None:
    path = copy_of("finished")

    def change(event: dict[str, dict[str, object]]) -> None:
        if event["type"] == "segment.closed":
            event["fields"]["rows"] = 99

    rechain_ledger(path, change)
    reseal(path)
    assert kinds_of(path) == {"event"}


def test_a_changed_row_is_found_whoever_chained_its_segment_anew(copy_of: Copy) -> None:
    path = copy_of("finished")
    first, last = (layout.closed_series(layout.METRICS, number) for number in (1, 3))
    rechain_segment(path / first, lambda row: row.update(loss=0.5))
    reseal(path)
    found = {(finding.file, finding.kind) for finding in verify_bundle(path).findings}
    assert found == {
        (first, "event"),
        (first, "chain"),
        (layout.closed_series(layout.METRICS, 2), "chain"),
    }

    path = copy_of("finished")
    rechain_segment(path / last, lambda row: row.update(loss=0.5))
    reseal(path)
    assert [(finding.file, finding.kind) for finding in verify_bundle(path).findings] == [(last, "event")]


def test_a_cut_off_ledger_is_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    layout.segments(path, layout.LEDGER)[-1].unlink()
    assert "missing" in kinds_of(path, quick=True)
    reseal(path)
    assert "event" in kinds_of(path)


def test_a_dropped_middle_segment_is_found(copy_of: Copy) -> None:
    path = copy_of("finished")
    (path / layout.ledger_segment(2)).unlink()
    (path / layout.closed_series(layout.METRICS, 2)).unlink()
    reseal(path)
    assert {"missing", "chain", "event"} <= kinds_of(path)


def test_a_manifest_of_another_run_is_found(copy_of: Copy, made: dict[str, Path]) -> None:
    path = copy_of("failed")
    overwrite(path / layout.MANIFEST, (made["finished"] / layout.MANIFEST).read_bytes())
    reseal(path)
    assert "manifest" in kinds_of(path)


def test_one_cause_floods_nobody(copy_of: Copy) -> None:
    path = copy_of("finished")
    overwrite(path / layout.RUN, (path / layout.RUN).read_bytes().replace(b"demo", b"dema"))
    report = verify_bundle(path)
    assert [(finding.file, finding.kind) for finding in report.findings] == [(layout.RUN, "digest")]
