"""A run as DVC's metrics and plots."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from helpers.bundles import finished, killed
from helpers.commands import recorder
from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.reader import Bundle
from recorder.tracking.metrics_files import metrics_files, thinned


def test_the_last_values_and_all_steps(tmp_path: Path) -> None:
    bundle = finished(tmp_path / "runs")
    done = recorder(tmp_path, "metrics", "latest", "--out", "a/b", "--json")
    assert done.code == 0, done.err
    names = json.loads(done.out)["files"]
    assert names == ["a/b/metrics.json", "a/b/steps.csv", "a/b/evaluations.csv"]
    metrics = json.loads((tmp_path / names[0]).read_bytes())
    rows = list(csv.DictReader((tmp_path / names[1]).open()))
    last = Bundle(bundle).committed.rows[-1]
    assert (metrics["steps"], metrics["loss"]) == (last["step"], last["loss"])
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert float(rows[-1]["loss"]) == last["loss"]
    assert metrics_files(Bundle(bundle)) == metrics_files(Bundle(bundle))


def test_an_open_run_has_what_there_is(tmp_path: Path) -> None:
    metrics = json.loads(metrics_files(Bundle(killed(tmp_path / "runs")))["metrics.json"])
    assert metrics["steps"] > 0


LOSSES = st.lists(st.one_of(st.floats(), st.none()), max_size=300)


@given(LOSSES, st.integers(3, 60))
def test_thinning_keeps_the_ends_and_the_extremes(losses: list[float | None], most: int) -> None:
    rows: list[dict[str, Any]] = [
        {"step": number} | ({} if loss is None else {"loss": loss}) for number, loss in enumerate(losses)
    ]
    kept = thinned(rows, most)
    assert len(kept) <= most + 4
    assert [row["step"] for row in kept] == sorted({row["step"] for row in kept})
    assert kept[:1] == rows[:1]
    assert kept[-1:] == rows[-1:]
    finite = [loss for loss in losses if loss is not None and abs(loss) < float("inf")]
    if finite:
        left = [row["loss"] for row in kept if "loss" in row]
        assert {min(finite), max(finite)} <= set(left)
