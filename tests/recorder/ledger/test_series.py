from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.disks import fill, small_disk, write_until_full
from helpers.recording import checked_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle import layout
from recorder.bundle.rows import read_rows
from recorder.canonical import canonical_json
from recorder.errors import BundleError, RecordingError
from recorder.ledger.columns import coerce_row
from recorder.ledger.parquet import read_segment
from recorder.ledger.series import SeriesWriter


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


def make_bundle(folder: Path) -> Path:
    (folder / layout.RUN).write_text("{}\n")
    return folder


def new_series(bundle: Path) -> SeriesWriter:
    return SeriesWriter(bundle, layout.METRICS)


def steps(bundle: Path) -> list[int]:
    return [row["step"] for row in checked_rows(bundle)]


def files(bundle: Path) -> list[str]:
    return sorted(path.name for path in (bundle / layout.METRICS).iterdir())


NUMBERS = st.floats() | st.integers(-(1 << 62), 1 << 62)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"step": st.integers(0, 1 << 62)},
        optional={
            "loss": st.none() | st.floats(),
            "time": st.text(max_size=5),
            "fingerprint": st.none() | st.text("abc", max_size=3),
            "worker_rank": st.lists(st.integers(0, 9), max_size=3),
            "worker_step_seconds": st.none() | st.lists(st.floats(), max_size=3),
            "accuracy": st.none() | NUMBERS,
            "val/loss": NUMBERS,
            "損失": NUMBERS,
        },
    ),
    min_size=1,
    max_size=6,
)


@given(ROWS, st.data())
@settings(deadline=None, max_examples=40)
def test_closing_changes_no_row_and_no_hash(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    bundle = make_bundle(tmp_path_factory.mktemp("series"))
    series = new_series(bundle)
    hashes = []
    for row in rows:
        series.append(row)
        hashes.append(series._last)
        if data.draw(st.booleans()):
            series.close_segment()
    before = [canonical_json(row) for row in read_rows(bundle, layout.METRICS)]
    assert before == [canonical_json(coerce_row(row)) for row in rows]
    series.close_segment()

    assert [canonical_json(row) for row in read_rows(bundle, layout.METRICS)] == before
    assert [canonical_json(row) for row in checked_rows(bundle)] == before
    segments = [read_segment(path) for path in layout.segments(bundle, layout.METRICS)]
    assert [value.hex() for segment in segments for value in segment.table.column("hash").to_pylist()] == hashes


@given(ROWS, st.data())
@settings(deadline=None, max_examples=40)
def test_a_series_cut_anywhere_goes_on_after_its_last_whole_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    bundle = make_bundle(tmp_path_factory.mktemp("cut"))
    series = new_series(bundle)
    closed = data.draw(st.integers(0, len(rows) - 1))
    for number, row in enumerate(rows):
        if number == closed:
            series.close_segment()
        series.append(row)
    path = layout.segments(bundle, layout.METRICS)[-1]
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    os.truncate(path, cut)
    torn = whole[:cut].rpartition(b"\n")[2]
    kept = closed + max(0, whole[:cut].count(b"\n") - 1)

    series = new_series(bundle)
    assert series.torn == ((f"metrics/{path.name}", torn) if torn else None)
    series.append({"step": 99})
    expected = [canonical_json(coerce_row(row)) for row in [*rows[:kept], {"step": 99}]]
    assert [canonical_json(row) for row in checked_rows(bundle)] == expected
    series.close_segment()
    assert [canonical_json(row) for row in checked_rows(bundle)] == expected


def test_a_closed_segment_is_read_only_parquet_with_its_digest(bundle: Path) -> None:
    series = new_series(bundle)
    assert series.close_segment() is None
    series.append({"step": 1, "loss": math.nan})
    closed = series.close_segment()
    assert closed is not None
    path, digests, rows = closed
    assert (path, rows, digests.size) == ("metrics/0001.parquet", 1, (bundle / path).stat().st_size)
    assert (bundle / path).stat().st_mode & 0o222 == 0
    assert files(bundle) == ["0001.parquet"]
    assert math.isnan(checked_rows(bundle)[0]["loss"])


# What is on disk after a kill at each point of closing segment 2: before, while and after its Parquet file is written,
# after it has its name, and after the open segment is gone.
KILLED = {
    "before": (True, None, False),
    "half a temporary file": (True, ".0002.parquet.77.tmp", False),
    "named": (True, None, True),
    "done": (False, None, True),
}


@pytest.mark.parametrize("state", KILLED)
def test_a_kill_while_a_segment_is_closed_loses_and_doubles_nothing(bundle: Path, state: str) -> None:
    open_stays, temporary, closed_is_there = KILLED[state]
    series = new_series(bundle)
    for step in (1, 2, 3):
        series.append({"step": step, "loss": 1 / step})
        if step == 1:
            series.close_segment()
    source = bundle / layout.open_series(layout.METRICS, 2)
    open_bytes = source.read_bytes()
    if closed_is_there:
        series.close_segment()
    if open_stays:
        source.write_bytes(open_bytes)
    if temporary:
        (source.parent / temporary).write_bytes(b"PAR1 half")

    series = new_series(bundle)
    assert steps(bundle) == [1, 2, 3]
    expected = ("metrics/0002.parquet", 2) if closed_is_there else None
    assert (series.found_closed and (series.found_closed[0], series.found_closed[2])) == expected
    series.append({"step": 4})
    series.close_segment()
    assert steps(bundle) == [1, 2, 3, 4]
    assert [name for name in files(bundle) if not name.startswith(".")] == [
        "0001.parquet",
        "0002.parquet",
        *(["0003.parquet"] if closed_is_there else []),
    ]


def test_a_failed_close_leaves_the_open_segment_to_go_on_with(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = new_series(bundle)
    series.append({"step": 1})

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recorder.ledger.parquet.write_segment", full)
    with pytest.raises(RecordingError, match=r"cannot write .*0001\.parquet: the disk is full"):
        series.close_segment()
    monkeypatch.undo()
    assert files(bundle) == ["0001.jsonl"]
    series.append({"step": 2})
    series.close_segment()
    assert (steps(bundle), files(bundle)) == ([1, 2], ["0001.parquet"])


def test_a_full_disk_leaves_whole_rows_and_no_half_parquet(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 128) as disk:
        bundle = make_bundle(disk)
        series = new_series(bundle)
        for step in range(200):
            series.append({"step": step, "loss": 1 / (step + 1)})
        filler = fill(disk)
        with pytest.raises(RecordingError, match="the disk is full"):
            series.close_segment()
        write_until_full(lambda number: series.append({"step": 200 + number}))
        assert files(bundle) == ["0001.jsonl"]
        written = steps(bundle)
        assert written == list(range(len(written)))
        filler.unlink()
        series.close_segment()
        assert steps(bundle) == written


def test_a_row_that_its_columns_cannot_hold_leaves_no_trace(bundle: Path) -> None:
    series = new_series(bundle)
    with pytest.raises(ValueError, match="column 'loss'"):
        series.append({"step": 1, "loss": "high"})
    assert not (bundle / layout.METRICS).exists()


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"step":1}\n', b'{"header":3,"hash":"00"}\n'])
def test_a_damaged_segment_cannot_be_continued(bundle: Path, line: bytes) -> None:
    series = new_series(bundle)
    series.append({"step": 1})
    path = bundle / layout.open_series(layout.METRICS, 1)
    header, row = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(line + row if b"header" in line else header + row + line)
    with pytest.raises(BundleError, match=r"metrics/0001\.jsonl is damaged"):
        new_series(bundle)


def test_a_file_that_is_no_segment_is_named(bundle: Path) -> None:
    (bundle / layout.METRICS).mkdir()
    (bundle / layout.METRICS / "0001.parquet").write_bytes(b"PAR1")
    with pytest.raises(BundleError, match=r"0001\.parquet cannot be read as a metrics segment"):
        new_series(bundle)
