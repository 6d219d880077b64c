"""One run from the command line to the sealed bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from helpers.commands import TINY, bits, events_of, only_bundle, recorder, train, verify_json

from recorder.bundle import layout
from recorder.bundle.rows import read_rows
from recorder.canonical import digest, digest_json


def test_leaves_a_bundle_that_verifies_and_nothing_else(undisturbed: Path, undisturbed_bundle: Path) -> None:
    assert verify_json(undisturbed, undisturbed_bundle)["findings"] == []
    left = {path.name for path in undisturbed.iterdir() if not path.name.startswith("train-")}
    assert left == {"runs", ".cache", "spool"}
    assert [path.name for path in (undisturbed / "spool").iterdir()] == ["source"]


def test_holds_everything_about_the_run(undisturbed_bundle: Path) -> None:
    manifest = json.loads((undisturbed_bundle / layout.MANIFEST).read_bytes())
    expected = {
        layout.RUN, layout.RESOLVED_CONFIG, layout.OVERRIDES, layout.HYDRA_CONFIG, layout.PACKAGES,
        layout.REQUIREMENTS, layout.SYSTEM, layout.SOURCE, layout.SOURCE_ARCHIVE, layout.SOURCE_PATCH, layout.DATASET,
        layout.TOKENIZER,
        "checkpoints/step-00000030/state.json", "checkpoints/step-00000040/model.safetensors",
        "checkpoints/step-00000040/optimizer.safetensors", "ledger/0001.jsonl", "metrics/0001.parquet",
        "system/0001.parquet", "logs/0001/driver.log",
    }  # fmt: skip
    assert expected <= set(manifest["files"])
    assert manifest["outcome"] == "finished"


def test_every_step_is_recorded_once_by_both_workers(undisturbed_bundle: Path) -> None:
    rows = list(read_rows(undisturbed_bundle, layout.METRICS))
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert all(row["worker_rank"] == [0, 1] for row in rows)
    assert all(seconds > 0 for row in rows for seconds in row["worker_step_seconds"])
    assert [row["tokens"] for row in rows] == [step * 6 * 32 for step in range(1, 41)]


def test_old_checkpoints_are_removed_by_event(undisturbed_bundle: Path) -> None:
    saved = [event["fields"]["step"] for event in events_of(undisturbed_bundle, "checkpoint.saved")]
    removed = [event["fields"]["step"] for event in events_of(undisturbed_bundle, "checkpoint.removed")]
    present = sorted(path.name for path in (undisturbed_bundle / layout.CHECKPOINTS).iterdir())
    assert (saved, removed) == ([10, 20, 30, 40], [10, 20])
    assert present == ["step-00000030", "step-00000040"]


def test_evaluations_and_samples_are_results(undisturbed_bundle: Path) -> None:
    evaluated = events_of(undisturbed_bundle, "evaluated")
    assert [event["fields"]["step"] for event in evaluated] == [20, 40]
    assert evaluated[1]["fields"]["loss"] < evaluated[0]["fields"]["loss"]
    assert [event["fields"]["step"] for event in events_of(undisturbed_bundle, "sample")] == [20, 40]


def test_what_ran_is_what_was_recorded(undisturbed_bundle: Path) -> None:
    config = digest_json(yaml.safe_load((undisturbed_bundle / layout.RESOLVED_CONFIG).read_text()))
    archive = digest((undisturbed_bundle / layout.SOURCE_ARCHIVE).read_bytes())
    joined = events_of(undisturbed_bundle, "worker.joined")
    assert {event["fields"]["config_digest"] for event in joined} == {config}
    assert {event["fields"]["source_digest"] for event in joined} == {archive}


def test_workers_share_the_runs_determinism_class(undisturbed_bundle: Path) -> None:
    promised = json.loads((undisturbed_bundle / layout.RUN).read_bytes())["determinism"]
    assert promised["promised"] is True
    joined = events_of(undisturbed_bundle, "worker.joined")
    assert {event["fields"]["determinism"] for event in joined} == {promised["id"]}
    assert events_of(undisturbed_bundle, "node.differs") == []


def test_the_summary_names_the_bundle_and_three_commands(undisturbed: Path, undisturbed_bundle: Path) -> None:
    text = next(undisturbed.glob("train-*.err")).read_text()
    assert str(Path("runs") / undisturbed_bundle.name) in text
    for command in ("show", "timeline", "verify"):
        assert f"recorder {command} {undisturbed_bundle.name}" in text


@pytest.mark.parametrize("workers", [1, 3])
def test_bits_do_not_depend_on_the_number_of_workers(
    workers: int, tmp_path: Path, undisturbed: Path, undisturbed_bundle: Path
) -> None:
    arguments = ["train.steps=40", "checkpoint.every=10", "train.eval_every=20", f"cluster.workers={workers}"]
    done = train(tmp_path, *TINY, *arguments)
    assert done.code == 0, done.err
    other = only_bundle(tmp_path)
    assert bits(other) == bits(undisturbed_bundle)
    losses = [
        [event["fields"]["loss"] for event in events_of(path, "evaluated")] for path in (other, undisturbed_bundle)
    ]
    assert losses[0] == losses[1]
    name = "checkpoints/step-00000040/model.safetensors"
    assert (other / name).read_bytes() == (undisturbed_bundle / name).read_bytes()
    difference = json.loads(recorder(tmp_path, "diff", str(undisturbed_bundle), str(other), "--json").out)
    assert (difference["first_divergent_step"], difference["steps_compared"]) == (None, 40)


def test_a_native_reduction_promises_nothing(tmp_path: Path) -> None:
    done = train(tmp_path, *TINY, "train.steps=4", "train.reduction=native")
    assert done.code == 0, done.err
    bundle = only_bundle(tmp_path)
    assert json.loads((bundle / layout.RUN).read_bytes())["determinism"]["promised"] is False
    assert verify_json(tmp_path, bundle)["ok"]
