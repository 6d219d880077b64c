from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY
from helpers.releases import GOLDEN_RELEASE, bare_contents, contents_of, golden_contents, golden_descriptions, write

from recorder.errors import UsageError
from recorder.release.contents import Contents
from recorder.release.describe import describe
from recorder.release.export import Exported


def test_descriptions_are_those_that_were_looked_at() -> None:
    kept = {p.relative_to(GOLDEN_RELEASE).as_posix(): p.read_bytes() for p in GOLDEN_RELEASE.rglob("*") if p.is_file()}
    assert golden_descriptions() == kept


def test_equal_contents_give_equal_bytes_wherever_they_lie(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "another folder"
    assert describe(golden_contents(first)) == describe(golden_contents(second))
    assert "croissant.json" not in describe(bare_contents(tmp_path / "bare"))


def test_no_description_names_the_folder_it_was_made_in(tmp_path: Path) -> None:
    assert all(str(tmp_path).encode() not in content for content in describe(golden_contents(tmp_path)).values())


def test_every_file_is_in_the_crate_with_its_digest_descriptions_too(tmp_path: Path) -> None:
    contents = golden_contents(tmp_path)
    made = write(tmp_path, contents)
    graph = json.loads(made["ro-crate-metadata.json"])["@graph"]
    files = {entity["@id"]: entity["sha256"] for entity in graph if entity["@type"] == "File"}
    assert files.keys() == contents.files.keys() | made.keys() - {"ro-crate-metadata.json"}
    assert files["model.safetensors"] == contents.files["model.safetensors"]["sha256"]


def test_describing_needs_neither_torch_nor_pyarrow_before_there_are_rows() -> None:
    code = "import sys, recorder.release.describe; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    heavy = {"torch", "ray", "hydra", "dvc", "numpy", "pyarrow", "transformers", "safetensors", "huggingface_hub"}
    assert not set(done.stdout.split()) & heavy


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    contents = bare_contents(tmp_path)
    (bundle,) = contents.bundles
    with pytest.raises(UsageError, match="at least one run"):
        Contents((), {}, contents.created)
    with pytest.raises(UsageError, match="in a release once"):
        Contents((bundle, bundle), contents.files, contents.created)
    with pytest.raises(UsageError, match="exported model is that of other-1"):
        Contents((bundle,), {}, contents.created, exported=Exported("other-1", 1, "checkpoints/step-00000001", ()))
    with pytest.raises(ValueError, match="does not match format"):
        Contents((bundle,), {}, "yesterday")


def test_several_runs_are_described_one_after_the_other(tmp_path: Path) -> None:
    from helpers.bundles import failed, resumed

    paths = [resumed(tmp_path / "a" / "runs", "first-1"), failed(tmp_path / "b" / "runs", "second-2")]
    card = describe(contents_of(tmp_path / "release", *paths))["README.md"].decode()
    assert card.index("## Run first-1") < card.index("## Run second-2")
