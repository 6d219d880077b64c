"""Releases to describe: a folder of bundles, its files with their digests, and the golden descriptions of one.

`python tests/helpers/releases.py` writes tests/golden/release anew; look at what changed before you commit it.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from recorder.bundle.files import blake3_file
from recorder.bundle.reader import Bundle
from recorder.release.contents import Contents
from recorder.release.describe import describe
from recorder.release.export import Exported
from recorder.release.statement import Statement, parse_statement

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_BUNDLE = GOLDEN / "format-1" / "golden-1"
GOLDEN_RELEASE = GOLDEN / "release"
CREATED = "2026-11-22T10:00:00.123456Z"
STATED: dict[str, Any] = {
    "title": "Demo <b>1</b> | model",
    "summary": "A demonstration of *no* use.",
    "authors": [
        {"given-names": "Ada", "family-names": "Lovelace", "orcid": "https://orcid.org/0000-0002-1825-0097"},
        {"name": "Example Lab", "email": "lab@example.org"},
    ],
    "licences": {"model": "Apache-2.0", "code": "MIT", "documents": "CC-BY-4.0", "data": "CC0-1.0"},
    "languages": ["en"],
    "url": "https://example.org/demo",
    "technical_report": "https://example.org/report.pdf",
    "limitations": "It knows 40 characters.",
}


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and digests of every file below `folder`, as release.json has them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "blake3": blake3_file(path),
        }
        for path in paths
    }


def place(folder: Path, *bundles: Path) -> tuple[Bundle, ...]:
    """Copies of `bundles` in the folder of a release."""
    for bundle in bundles:
        shutil.copytree(bundle, folder / "runs" / bundle.name)
    return tuple(Bundle(folder / "runs" / bundle.name) for bundle in bundles)


def contents_of(folder: Path, *bundles: Path, without: tuple[str, ...] = (), **values: Any) -> Contents:
    """The contents of a release of `bundles` in the new folder `folder`, which may hold other files already.

    Files whose path ends with one of `without` are withheld.
    """
    placed = place(folder, *bundles)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if without and path.as_posix().endswith(without):
            path.unlink()
    return Contents(placed, digests(folder), CREATED, **values)


def write(folder: Path, contents: Contents) -> dict[str, bytes]:
    """Describe the release and write the descriptions into its folder."""
    made = describe(contents)
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return made


def golden_contents(folder: Path) -> Contents:
    """A release of the golden bundle with an export and data, all of it made up and frozen."""
    made_up = {
        "config.json": b"{}\n",
        "model.safetensors": (GOLDEN_BUNDLE / "checkpoints/step-00000012/model.safetensors").read_bytes(),
        "data/a.jsonl": b'{"text": "a"}\n',
        "data/b.bin": b"b",
    }
    for name, content in made_up.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    withheld = ({"run": "golden-1", "path": "logs/0003/driver.log", "reason": "it names people", "blake3": "0" * 64},)
    return contents_of(
        folder,
        GOLDEN_BUNDLE,
        without=("logs/0003/driver.log",),
        statement=parse_statement(STATED),
        exported=Exported("golden-1", 12, "checkpoints/step-00000012", ("config.json", "model.safetensors")),
        withheld=withheld,
        edited=({"run": "golden-1", "path": "run.json", "original": {"size": 1, "blake3": "1" * 64}},),
    )


def bare_contents(folder: Path) -> Contents:
    """A release of the golden bundle of which nothing is stated, nothing exported, published as it is."""
    return contents_of(folder, GOLDEN_BUNDLE, statement=Statement(), problems=("golden-1: 1 finding",))


def golden_descriptions() -> dict[str, bytes]:
    """The descriptions of both, by path below tests/golden/release."""
    found = {}
    for name, make in (("full", golden_contents), ("bare", bare_contents)):
        with tempfile.TemporaryDirectory() as scratch:
            made = describe(make(Path(scratch)))
        found |= {f"{name}/{path}": content for path, content in made.items()}
    return found


if __name__ == "__main__":
    shutil.rmtree(GOLDEN_RELEASE, ignore_errors=True)
    for path, content in golden_descriptions().items():
        (GOLDEN_RELEASE / path).parent.mkdir(parents=True, exist_ok=True)
        (GOLDEN_RELEASE / path).write_bytes(content)
