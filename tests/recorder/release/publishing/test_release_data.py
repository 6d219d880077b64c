"""`--data`: the files that runs were trained on are released as they are, gated and described, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.bundles import finished
from helpers.private_runs import token
from helpers.publishing import Recorder, content
from helpers.records import SOURCE_FILES, captured_files, config_with, dataset_record

from recorder.bundle import layout
from recorder.canonical import digest, readable_json
from recorder.release.manifest import RELEASE

STORIES = b'{"text": "There was a bee."}\n'
SHARD = bytes(range(256)) * 8
LEAK = f'{{"text": "{token().line}"}}\n'.encode()


@pytest.fixture
def data(lab: Path) -> Path:
    """A folder of what the run `fed-1` was trained on, one file of it elsewhere."""
    record = dataset_record()
    files = {"raw/stories.jsonl": STORIES, "raw/leak.jsonl": LEAK, "raw/lost.txt": b"lost"}
    record["inputs"] = [{"path": name, "bytes": len(text), "blake3": digest(text)} for name, text in files.items()]
    record["splits"]["train"]["shards"] = [{"file": "train-00000.bin", "bytes": len(SHARD), "blake3": digest(SHARD)}]
    captured = captured_files(config_with(), SOURCE_FILES) | {layout.DATASET: readable_json(record)}
    finished(lab / "runs", "fed-1", files=captured)
    folder = lab / "data"
    (folder / "raw").mkdir(parents=True)
    (folder / "raw/stories.jsonl").write_bytes(STORIES)
    (folder / "train.bin").write_bytes(SHARD)
    return folder


def test_data_is_released_to_the_byte_and_described(recorder: Recorder, lab: Path, data: Path) -> None:
    said = recorder("release", "fed-1", "--to", "out", "--data", "data")
    assert (said.code, said.err) == (0, "")
    assert "2 of 5 files of training data, as recorded" in said.out
    assert content(lab / "out/data") == content(data)
    described = json.loads((lab / "out/croissant.json").read_bytes())
    assert [file["@id"] for file in described["distribution"]] == ["data/raw/stories.jsonl", "data/train.bin"]
    assert "croissant.json" in (lab / "out/README.md").read_text()
    assert {"croissant.json", "data/train.bin"} < json.loads((lab / "out" / RELEASE).read_bytes())["files"].keys()
    assert recorder("verify", "out").code == 0
    assert recorder("get", "out", "--only", "metrics", "--out", "small").code == 0
    assert not (lab / "small/data").exists()
    assert recorder("get", "out", "--only", "data", "--out", "fed").code == 0
    assert content(lab / "fed/data") == content(data)
    assert recorder("release", "fed-1", "--to", "without").code == 0
    assert not (lab / "without/croissant.json").exists()


def test_a_credential_in_the_data_bars_the_release(recorder: Recorder, lab: Path, data: Path) -> None:
    (data / "raw/leak.jsonl").write_bytes(LEAK)
    said = recorder("release", "fed-1", "--to", "out", "--data", "data")
    assert said.code == 1
    assert "data/raw/leak.jsonl:1  github-token" in said.out
    assert not (lab / "out").exists()
    [found] = json.loads(recorder("release", "fed-1", "--to", "out", "--data", "data", "--json").out)["secrets"]
    assert recorder("release", "fed-1", "--to", "out", "--data", "data", "--allow", found["fingerprint"]).code == 0
    assert (lab / "out/data/raw/leak.jsonl").read_bytes() == LEAK


def test_what_is_no_data_of_the_run_is_a_line(recorder: Recorder, lab: Path, data: Path) -> None:
    (lab / "empty").mkdir()
    (data / "raw/stories.jsonl").write_bytes(STORIES.replace(b"bee", b"fly"))
    for folder, told in (
        ("data", r"stories.jsonl is none of the files that data/dataset.json of the runs names"),
        ("empty", "--data empty holds no file"),
        ("nowhere", "--data nowhere is no folder"),
    ):
        said = recorder("release", "fed-1", "--to", "out", "--data", folder)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert told in said.err
    (data / "raw/stories.jsonl").unlink()
    (data / "raw/stories.jsonl").symlink_to("/etc/hostname")
    assert "is a link or no file" in recorder("release", "fed-1", "--to", "out", "--data", "data").err
    assert not (lab / "out").exists()
