"""What users bring and do: their own text, model and prints, sweeps, mistakes that show late, full disks."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY, TINY, TrainProcess, events_of, only_bundle, train, verify_json

from recorder.bundle import layout
from recorder.bundle.rows import read_rows

ONE_WORKER = [*TINY, "cluster.workers=1", "train.steps=4"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of one's own, to put a model into."""
    copy = tmp_path / "checkout"
    names = ["train.py", "train", "recorder", "conf", "pyproject.toml", ".gitignore"]
    copy.mkdir()
    for name in names:
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(copy / name)], check=True)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=copy, check=True)
    return copy


def write_model(checkout: Path, body: str) -> None:
    source = """
    import ctypes, os, sys, logging
    import torch
    from recorder.worker import log
    from train.model import Llama

    class Own(Llama):
        def forward(self, tokens):
            logits = super().forward(tokens)
    """
    text = textwrap.dedent(source) + textwrap.indent(textwrap.dedent(body), " " * 8)
    (checkout / "own_model.py").write_text(text)


def run_own(checkout: Path, *arguments: str) -> tuple[int, str, Path]:
    running = TrainProcess(
        checkout, *ONE_WORKER, "model._target_=own_model.Own", *arguments, script=checkout / "train.py"
    )
    done = running.wait()
    return done.code, done.err, only_bundle(checkout)


def test_a_users_own_text_is_read_split_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "a.txt").write_text("The cat sat on the mat. " * 200)
    lines = [json.dumps({"text": f"Line {number} tells of the sea and the ship. " * 5}) for number in range(30)]
    (tmp_path / "corpus/b.jsonl").write_text("\n".join(lines) + "\n")
    tiny = [value for value in ONE_WORKER if not value.startswith("data.megabytes")]
    done = train(tmp_path, *tiny, "data=text", "data.files=[a.txt,corpus/*.jsonl]", "data.licence=CC0-1.0")
    assert done.code == 0, done.err
    bundle = only_bundle(tmp_path)
    dataset = json.loads((bundle / layout.DATASET).read_bytes())
    assert [entry["path"] for entry in dataset["inputs"]] == ["a.txt", "corpus/b.jsonl"]
    assert verify_json(tmp_path, bundle)["findings"] == []


def test_a_users_model_its_prints_and_its_numbers_are_recorded(checkout: Path) -> None:
    write_model(
        checkout,
        """
        print("printed by Python", flush=True)
        os.write(2, b"written by C\\n")
        logging.getLogger("own").warning("logged with care")
        log({"spread": float(logits.detach().std())})
        return logits
        """,
    )
    code, err, bundle = run_own(checkout)
    assert code == 0, err
    assert "printed by Python" in err
    log = (bundle / "logs/0001/rank-0.log").read_text()
    for text in (" stdout printed by Python\n", " stderr written by C\n", " logging WARNING own: logged with care\n"):
        assert text in log
    assert all(row["spread"] > 0 for row in read_rows(bundle, layout.METRICS))
    source = json.loads((bundle / layout.SOURCE).read_bytes())
    assert "own_model.py" in json.dumps(source)
    assert verify_json(checkout, bundle)["findings"] == []


def test_an_exception_in_the_model_is_in_the_record_and_ends_the_run(checkout: Path) -> None:
    write_model(checkout, 'raise KeyError("no such thing")')
    code, err, bundle = run_own(checkout)
    assert code == 1
    assert "KeyError: 'no such thing'" in err
    exception = events_of(bundle, "exception")[0]["fields"]
    assert (exception["rank"], exception["kind"]) == (0, "KeyError")
    assert "own_model.py" in exception["traceback"]
    assert json.loads((bundle / layout.MANIFEST).read_bytes())["outcome"] == "failed"
    assert verify_json(checkout, bundle)["findings"] == []


def test_nan_is_recorded_exactly_and_stops_the_run(checkout: Path) -> None:
    write_model(checkout, "return logits * float('nan')")
    code, err, bundle = run_own(checkout)
    assert code == 1
    assert "train.non_finite" in err
    rows = list(read_rows(bundle, layout.METRICS))
    assert len(rows) == 1
    assert str(rows[0]["loss"]) == "nan"
    event = events_of(bundle, "step.non_finite")[0]["fields"]
    assert (event["step"], event["loss"], event["policy"]) == (1, "NaN", "stop")
    assert verify_json(checkout, bundle)["findings"] == []


def test_a_sweep_leaves_a_bundle_each_linked_by_an_id(tmp_path: Path) -> None:
    done = train(tmp_path, "-m", *ONE_WORKER, "seed=1,2")
    assert done.code == 0, done.err
    bundles = [path for path in (tmp_path / "runs").iterdir() if (path / layout.RUN).is_file()]
    runs = [json.loads((path / layout.RUN).read_bytes()) for path in bundles]
    assert sorted(run["seed"] for run in runs) == [1, 2]
    assert len({run["sweep"] for run in runs}) == 1
    assert all(verify_json(tmp_path, path)["findings"] == [] for path in bundles)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB: enough for what is captured, too small for checkpoints. Needs root, as CI has."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mounted)], check=True)
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_said_once_and_leaves_no_half_checkpoint(tmp_path: Path, small_disk: Path) -> None:
    arguments = [f"run.dir={small_disk}", "train.steps=200", "checkpoint.every=1", "checkpoint.keep=0"]
    done = train(tmp_path, *ONE_WORKER, *arguments)
    assert done.code == 1
    assert done.err.count("the disk is full") == 1
    assert "Traceback" not in done.err
    bundle = next(path for path in small_disk.iterdir() if (path / layout.RUN).is_file())
    for folder in (bundle / layout.CHECKPOINTS).iterdir():
        assert (folder / layout.CHECKPOINT_STATE).is_file()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = train(tmp_path, *ONE_WORKER, "run.dir=file/runs")
    assert done.code == 1
    assert "cannot write" in done.err
    assert "Traceback" not in done.err
