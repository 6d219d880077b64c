import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import train.data.preparation
from recorder.errors import DataError
from train.data import open_prepared, prepare

KILLED_BEFORE_IT_IS_NAMED = """
import os, signal, sys
import train.data.preparation as preparation
from train.config import DataConfig
preparation.sync_folder = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
preparation.prepare(DataConfig.model_validate_json(sys.argv[1]))
"""


def entries(pattern: str = "*") -> list[str]:
    return sorted(path.name for path in Path("cache").glob(pattern))


@pytest.fixture
def corpus(folder, write_jsonl):
    (folder / "a.txt").write_text("The quick brown fox jumps over the lazy dog. " * 8)
    write_jsonl("b.jsonl", [f"Käse number {number} is the best." for number in range(9)])
    return ("a.txt", "b.jsonl")


@pytest.mark.parametrize(
    ("tokenizer", "address", "content"),
    [
        (
            "bytes",
            "5a73e2f0136c4f9533c7ec5d210f8f6dfbdacaeb24e8a87b03e9f8764fb155f2",
            "f488934a42006f9045caefaf3f368983a499f08c00fe22e6b3f002e8d1fadb84",
        ),
        (
            "chars",
            "ae0342fcb1be4ab3d46ac3178c3cab057a62f688d359b45fb4df58448d496960",
            "e75d7618a4dd1244a301a352e5b12e239733d81a25497c2b7fed1f260f1e4739",
        ),
    ],
)
def test_prepared_bytes_are_the_same_for_ever(corpus, text_config, tokenizer, address, content):
    prepared = prepare(text_config(*corpus, tokenizer=tokenizer))
    assert prepared.folder.name == prepared.record["address"] == address
    assert prepared.record["content"] == content


def test_stories_are_prepared_the_same_for_ever(stories_config):
    assert (
        prepare(stories_config()).record["content"]
        == "a5b3e01c8d7f08a78f32462a06968d24c17b0bcdef2581b2f578cd88f975cb45"
    )


def test_the_record_says_what_was_prepared_and_how(corpus, text_config):
    record = prepare(text_config(*corpus, licence="CC-BY-4.0")).record
    assert record == json.loads((Path("cache") / record["address"] / "dataset.json").read_text())
    assert record["licence"] == "CC-BY-4.0"
    assert [(entry["path"], entry["first_document"], entry["documents"]) for entry in record["inputs"]] == [
        ("a.txt", 0, 1),
        ("b.jsonl", 1, 9),
    ]
    assert record["inputs"][0]["bytes"] == Path("a.txt").stat().st_size
    assert (record["documents"], record["characters"]) == (10, 360 + 9 * 26)
    assert [part["characters"] for part in record["splits"].values()] == [270 + 9 * 20, 90 + 9 * 6]
    assert record["split"]["rule"] == "tail"
    assert record["tokenizer"]["end_of_document"] == 255
    assert record["order"] == {"name": "feistel-blake3-splitmix64", "version": 1, "rounds": 8}


def test_only_what_changes_the_bytes_changes_the_folder(corpus, text_config):
    one = text_config(*corpus)
    folder = prepare(one).folder
    assert prepare(one.model_copy(update={"sequence_length": 16})).folder == folder
    for change in (
        {"tokenizer": "chars"}, {"validation_fraction": 0.3}, {"licence": "MIT"}, {"files": list(reversed(corpus))},
    ):  # fmt: skip
        assert prepare(one.model_copy(update=change)).folder != folder
    with Path("a.txt").open("a") as stream:
        stream.write("More.")
    assert prepare(one).folder != folder
    assert len(entries()) == 6


def test_every_story_parameter_counts(stories_config):
    folders = {prepare(stories_config(**change)).folder for change in ({}, {"seed": 2}, {"megabytes": 0.21})}
    assert len(folders) == 3


def test_what_is_found_is_not_made_again(stories_config):
    messages = []
    first = prepare(stories_config(), messages.append)
    assert messages[0] == "reading the generated stories"
    before = (first.folder / "train-00000.bin").stat().st_mtime_ns
    messages.clear()
    again = prepare(stories_config(), messages.append)
    assert messages == [f"found prepared data in {first.folder}"]
    assert (again.folder / "train-00000.bin").stat().st_mtime_ns == before


def test_two_at_once_both_succeed(stories_config):
    other = []

    def prepare_meanwhile(message: str) -> None:
        if message.startswith("writing"):
            other.append(prepare(stories_config()))

    one = prepare(stories_config(), prepare_meanwhile)
    assert one.record == other[0].record
    assert entries() == [one.folder.name]


def test_a_killed_preparation_leaves_nothing_that_looks_complete(stories_config):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_IT_IS_NAMED, stories_config().model_dump_json()],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert entries() == entries(".preparing-*")
    assert len(entries(".preparing-*")) == 2
    prepared = prepare(stories_config())
    assert entries() == [prepared.folder.name]


def test_unfit_text_leaves_nothing_behind(folder, text_config):
    (folder / "a.txt").write_bytes(b"good text, then \xff")
    with pytest.raises(DataError, match=r"a\.txt: the byte at offset 16"):
        prepare(text_config("a.txt"))
    assert entries() == []


def test_shards_are_bounded(corpus, text_config, monkeypatch):
    whole = prepare(text_config(*corpus)).batch("train", range(50), 8)
    monkeypatch.setattr(train.data.preparation, "SHARD_BYTES", 100)
    cut = prepare(text_config(*corpus, cache="other"))
    assert len(cut.record["splits"]["train"]["shards"]) == 5
    assert all((mine == theirs).all() for mine, theirs in zip(cut.batch("train", range(50), 8), whole, strict=True))


@pytest.mark.parametrize("name", ["train-00000.bin", "train-documents.bin", "validation-00000.bin", "tokenizer.json"])
def test_a_damaged_folder_is_refused(stories_config, name):
    folder = prepare(stories_config()).folder
    data = bytearray((folder / name).read_bytes())
    data[-9] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=r"is damaged .* delete that folder and run again"):
        prepare(stories_config())


@pytest.mark.parametrize("name", ["train-00000.bin", "dataset.json", "validation-documents.bin"])
def test_a_folder_with_a_missing_or_cut_file_does_not_open(stories_config, name):
    folder = prepare(stories_config()).folder
    os.truncate(folder / name, 8)
    with pytest.raises(DataError, match=r"is damaged \(.*(cut|changed)"):
        open_prepared(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"cannot be opened \(No such file or directory: .*{name}\)"):
        open_prepared(folder)


def test_another_format_is_refused(stories_config):
    path = prepare(stories_config()).folder / "dataset.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(DataError, match="has dataset format 2; this version reads 1"):
        open_prepared(path.parent)


def test_a_cache_that_cannot_be_written_is_named(folder, stories_config):
    (folder / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"data\.cache: prepared data cannot be written to .*cache: .*set data\.cache"):
        prepare(stories_config())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sequence_length": 469}, "the train part of a.txt and b.jsonl has 469 tokens, too few for one sequence of "
                                   "data.sequence_length=469 and the token after it; use more text, lower "
                                   "data.validation_fraction (0.25 now) or lower data.sequence_length"),
        ({"validation_fraction": 0.01}, "the validation part of a.txt and b.jsonl has 4 tokens, too few for one "
                                        "sequence of data.sequence_length=8 and the token after it; use more text, "
                                        "raise data.validation_fraction (0.01 now) or lower data.sequence_length"),
    ],
)  # fmt: skip
def test_text_that_is_too_short_is_named(corpus, text_config, changes, expected):
    with pytest.raises(DataError) as caught:
        prepare(text_config(*corpus, **changes))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
