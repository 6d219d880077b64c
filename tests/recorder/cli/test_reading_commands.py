"""list, show, timeline, verify and diff, as a person and as a program reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.bundles import RunBuilder
from helpers.tampering import flip, overwrite

from recorder.bundle import layout

Recorder = Callable[..., Any]

KINDS = ["finished", "failed", "killed", "resumed", "continued"]


def test_list_is_an_array_newest_first(recorder: Recorder) -> None:
    listed = json.loads(recorder("list", "--json").out)
    assert [run["run"] for run in listed] == KINDS[::-1]
    assert (listed[-1]["last_step"], listed[-1]["loss"], listed[-1]["outcome"]) == (12, 1.6, "finished")


def test_list_in_80_columns(recorder: Recorder) -> None:
    lines = recorder("list").out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines] == ["run", *KINDS[::-1]]
    assert "open (killed)" in next(line for line in lines if line.startswith("killed"))


def test_an_empty_folder_is_no_error(recorder: Recorder, tmp_path: Path) -> None:
    said = recorder("list", root=tmp_path)
    assert (said.code, "there is no run in" in said.out) == (0, True)
    assert json.loads(recorder("list", "--json", root=tmp_path).out) == []


def test_list_shows_what_is_damaged(recorder: Recorder, own_runs: Path) -> None:
    overwrite(own_runs / "finished" / layout.MANIFEST, b"{}")
    overwrite(own_runs / "failed" / layout.RUN, b"\xff")
    said = recorder("list", root=own_runs)
    assert said.code == 0
    assert "damaged" in said.out


@pytest.mark.parametrize("kind", KINDS)
def test_show_fits_one_screen(kind: str, recorder: Recorder) -> None:
    said = recorder("show", kind)
    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[0] == kind
    assert len(lines) <= 24
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert f"recorder verify {kind}" in said.out


def test_show_says_how_it_went(recorder: Recorder) -> None:
    text = recorder("show", "resumed").out
    for part in (
        *("finished, sealed, root", "2 attempts (killed, finished)", "seed 1", "train.model.Llama(hidden_size=16"),
        *("licence CC0-1.0", "commit 111111111111 on main", "torch 2.13.0+cpu", "class 0123456789abcdef"),
        *("1 to 12, 768 tokens", "3 recorded more than once", "3.5556 to 1.6000, validation 1.7500 at step 12"),
        *("█▇▆▅▄▃▃▂▂▂▁▁", "5, 10 (", "2 then 2, none lost"),
    ):
        assert part in text, part


def test_show_of_a_killed_run_tells_how_to_go_on(recorder: Recorder, own_runs: Path) -> None:
    segment = layout.segments(own_runs / "killed", layout.METRICS)[-1]
    overwrite(segment, segment.read_bytes() + b"{")
    text = recorder("show", "killed", root=own_runs).out
    assert "run.resume=killed" in text
    assert "torn record of 1 bytes" in " ".join(text.split())


def test_show_of_a_bundle_with_next_to_nothing(recorder: Recorder, tmp_path: Path) -> None:
    RunBuilder(tmp_path / "runs", files={}).create().close("failed")
    said = recorder("show", "latest", root=tmp_path / "runs")
    assert said.code == 0
    assert "none joined" in said.out


def test_show_as_json(recorder: Recorder) -> None:
    facts = json.loads(recorder("show", "resumed", "--json").out)
    assert [attempt["outcome"] for attempt in facts["attempts"]] == ["killed", "finished"]
    assert (facts["results"]["last_step"], facts["results"]["repeated"]) == (12, 3)
    assert facts["config"]["optim"]["lr"] == 0.003


def test_show_of_a_damaged_bundle_is_one_line(recorder: Recorder, own_runs: Path) -> None:
    overwrite(own_runs / "finished/ledger/0001.jsonl", b"{}\n")
    said = recorder("show", "finished", root=own_runs)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert said.err.startswith("recorder: ledger/0001.jsonl line 1")


def test_timeline_tells_what_happened_in_order(recorder: Recorder) -> None:
    lines = recorder("timeline", "resumed").out.splitlines()
    told = [
        "the run begins, 8 files captured",
        "attempt begins on node-a: python train.py",
        "rank 0 joins on node-a, pid 100, micro-batches 0 to 1, cpu",
        "membership 0: 2 workers",
        "steps 1 to 8 by membership 0",
        "checkpoint of step 5 saved, 1.8 kB",
        "attempt ends: killed",
        "state of step 5 restored from storage: test",
        "steps 6 to 12 by membership 0",
        "validation loss 1.7500 at step 12",
        "the run ends: finished",
    ]
    places = [next(number for number, line in enumerate(lines) if text in line) for text in told]
    assert places == sorted(places)
    assert not any("segment" in line for line in lines)
    assert any("segment" in line for line in recorder("timeline", "resumed", "--all").out.splitlines())


def test_timeline_tells_of_losses_and_of_what_it_does_not_know(recorder: Recorder, tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "runs").create().join().steps(1, 2).lose(1)
    builder.run.event("weather", sky="grey", text="x" * 300)
    builder.run.event("exception", rank=0, kind="ValueError", message="line one\nline two")
    builder.close("failed")
    text = recorder("timeline", "latest", root=tmp_path / "runs").out
    assert "rank 1 is lost, pid 101: killed by a signal" in text
    assert "weather sky=grey text=xxx" in text
    assert "rank 0 raised ValueError: line one line two" in text
    assert max(map(len, text.splitlines())) <= 120


def test_timeline_as_json(recorder: Recorder) -> None:
    entries = json.loads(recorder("timeline", "resumed", "--json").out)
    assert entries[0]["seconds"] == 0
    steps = [entry["fields"] for entry in entries if entry["type"] == "steps"]
    assert [(found["first"], found["last"]) for found in steps] == [(1, 8), (6, 12)]
    assert [entry["attempt"] for entry in entries] == sorted(entry["attempt"] for entry in entries)


def test_verify_says_consistent_and_that_nothing_anchors_it(recorder: Recorder) -> None:
    said = recorder("verify", "finished")
    assert said.code == 0
    assert said.out.startswith("finished: consistent, unanchored\n")
    report = json.loads(recorder("verify", "finished", "--json").out)
    assert (report["ok"], report["anchored"], report["findings"]) == (True, False, [])


@pytest.mark.parametrize("arguments", [[], ["--digests"]])
def test_verify_ends_with_1_for_a_finding(recorder: Recorder, own_runs: Path, arguments: list[str]) -> None:
    flip(own_runs / "finished" / layout.RESOLVED_CONFIG, 3)
    said = recorder("verify", "finished", *arguments, root=own_runs)
    assert said.code == 1
    assert "NOT CONSISTENT: 1 finding" in said.out
    assert "config/resolved.yaml: it does not match its digest" in said.out
    report = json.loads(recorder("verify", "finished", "--json", *arguments, root=own_runs).out)
    assert report["ok"] is False
    assert report["findings"] == [
        {"file": "config/resolved.yaml", "reason": "it does not match its digest", "kind": "digest"}
    ]


def test_verify_survives_names_that_are_no_text(recorder: Recorder, own_runs: Path) -> None:
    (own_runs / "finished" / b"caf\xe9\n.txt".decode(errors="surrogateescape")).write_bytes(b"x")
    for arguments in ([], ["--json"]):
        said = recorder("verify", "finished", *arguments, root=own_runs)
        assert said.code == 1
        assert "extra" in said.out


def test_diff_ends_with_0_where_nothing_that_matters_differs(recorder: Recorder) -> None:
    said = recorder("diff", "finished", "resumed")
    assert said.code == 0
    assert "same bits, 12 steps compared" in said.out
    found = json.loads(recorder("diff", "finished", "resumed", "--json").out)
    assert (found["first_divergent_step"], found["steps_compared"]) == (None, 12)


def test_diff_ends_with_1_where_something_does(recorder: Recorder, own_runs: Path) -> None:
    RunBuilder(own_runs, "other", seed=2).create().join().steps(1, 3).steps(4, 9, grad_norm=7.0).close()
    said = recorder("diff", "finished", "other", root=own_runs)
    assert said.code == 1
    assert "they part at step 4, 9 steps compared" in said.out
    assert "grad_norm: 0.25 | 7.0" in said.out
    assert "seed: 1 | 2" in said.out
