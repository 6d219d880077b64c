"""The documents are true: their links lead somewhere, and every benchmark they quote runs (see also end_to_end/)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.benchmarks import ARGUMENTS, ON_RAY, run_benchmark
from helpers.commands import REPOSITORY

DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_documents_exist(document: Path) -> None:
    named = re.findall(r"`((?:tests|benchmarks|docs|recorder|train|conf)/[\w/.-]+)`", document.read_text())
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_every_benchmark_that_is_quoted_is_run_here() -> None:
    quoted = {name for path in DOCUMENTS for name in re.findall(r"python benchmarks/(\w+)\.py", path.read_text())}
    present = {path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")}
    assert quoted == present == set(ARGUMENTS)


@pytest.mark.parametrize("name", sorted(ARGUMENTS.keys() - ON_RAY))
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    run_benchmark(name, tmp_path)
