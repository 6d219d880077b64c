"""Rows are read a few at a time and, where columns are named, only those."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.bundles import RunBuilder, finished, killed

from recorder.bundle import layout
from recorder.bundle.rows import column_names, read_rows
from recorder.errors import BundleError
from recorder.ledger import parquet


@pytest.mark.parametrize("make", [finished, killed])
def test_named_columns_are_those_of_the_whole_rows(make: object, tmp_path: Path) -> None:
    path = make(tmp_path / "runs")  # type: ignore[operator]
    wanted = {"step", "loss", "fingerprint", "worker_rank", "no such column"}
    whole = list(read_rows(path, layout.METRICS))
    assert whole
    assert list(read_rows(path, layout.METRICS, wanted)) == [
        {name: value for name, value in row.items() if name in wanted} for row in whole
    ]
    assert column_names(path, layout.METRICS) == sorted({name for row in whole for name in row})


def test_a_segment_longer_than_a_batch_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = finished(tmp_path / "runs")
    whole = list(read_rows(path, layout.METRICS))
    monkeypatch.setattr(parquet, "_BATCH", 2)
    assert list(read_rows(path, layout.METRICS)) == whole


def test_a_run_without_rows_has_no_columns(tmp_path: Path) -> None:
    path = RunBuilder(tmp_path / "runs").create().close("failed")
    assert column_names(path, layout.METRICS) == []
    assert list(read_rows(path, layout.METRICS)) == []


def test_what_is_no_segment_of_ours_is_refused(tmp_path: Path) -> None:
    path = finished(tmp_path / "runs")
    segment = sorted((path / layout.METRICS).iterdir())[0]
    for content in ({"step": [1]}, {"step": [1], "hash": ["text"]}):
        segment.unlink()
        pq.write_table(pa.table(content).replace_schema_metadata({b"run-recorder": b"{}"}), segment)
        for read in (read_rows, column_names):
            with pytest.raises(BundleError, match="cannot be read as a metrics segment"):
                list(read(path, layout.METRICS))  # type: ignore[operator]
    shutil.rmtree(path)
