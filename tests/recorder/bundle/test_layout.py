from __future__ import annotations

from pathlib import Path

import pytest

from recorder.bundle import layout


@pytest.mark.parametrize("text", ["a", "demo-1", "A.b_c-9", "0" * 96, "a..b"])
def test_names_that_can_be_run_ids(text: str) -> None:
    assert layout.is_run_id(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".hidden", "-x", "a/b", "../a", "a\\b", "a b", "a\n", "é", "0" * 97, "a.partial", "a\0"]
)
def test_names_that_cannot(text: str) -> None:
    assert not layout.is_run_id(text)


def test_versions_can_be_told_from_what_they_are_versions_of() -> None:
    for path in ("config/resolved.yaml", "source/source.tar.gz", "environment/nodes/ip-10.0.0.1.json"):
        versions = [layout.version(path, 2), layout.version(path, 2, 2), layout.version(path, 12_345)]
        assert len({path, *versions}) == 4
        assert [layout.first_version(version) for version in versions] == [path] * 3
        assert layout.first_version(path) == path
    assert layout.version("source/source.tar.gz", 2, 3) == "source/source.attempt-0002-3.tar.gz"


def test_checkpoint_folders_and_steps() -> None:
    for step in (0, 7, 123_456_789):
        assert layout.checkpoint_step(Path(layout.checkpoint_folder(step)).name) == step
    for name in ("step-7", "step-00000007.partial", ".step-00000007.1.partial", "damaged-00000007"):
        assert layout.checkpoint_step(name) is None
    assert layout.is_partial(".step-00000007.1.partial")


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        (".step-00000007.123.partial", 123),
        (".step-00000007.1", 1),
        (".step-00000007.partial", None),
        (".step-00000007.1-2.partial", None),
        (".step-00000007.\u00b2.partial", None),
        (".step-00000007..partial", None),
        ("", None),
    ],
)
def test_an_unfinished_checkpoint_tells_who_writes_it(name: str, writer: int | None) -> None:
    assert layout.writer_of_partial(name) == writer


def test_segments_are_in_order_and_a_closed_one_hides_the_open_one(tmp_path: Path) -> None:
    assert layout.segments(tmp_path, "metrics") == []
    (tmp_path / "metrics").mkdir()
    for name in (
        "0002.jsonl",
        "0001.parquet",
        "0002.parquet",
        "10000.jsonl",
        "9999.parquet",
        ".0003.parquet.1.tmp",
        "x",
    ):
        (tmp_path / "metrics" / name).touch()
    names = [path.name for path in layout.segments(tmp_path, "metrics")]
    assert names == ["0001.parquet", "0002.parquet", "9999.parquet", "10000.jsonl"]
