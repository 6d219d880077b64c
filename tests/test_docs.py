"""The documents are true: their links lead somewhere, and every benchmark they quote runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY

DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
ARGUMENTS = {
    "dvc": "0.05 300 40",
    "recording": "1",
    "checkpoint": "1",
    "verify": "0.5",
    "secret_scan": "1",
    "overhead": "3",
    "startup": "1",
    "recovery": "1 1 ours",
    "reduction": "1",
    "soak": "0.3 5",
}
ON_RAY = {"overhead", "startup", "recovery", "soak"}


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


def run(name: str, folder: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / f"{name}.py"), *ARGUMENTS[name].split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d\.\d\d", done.stdout)


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - ON_RAY))
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    run(name, tmp_path)


@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(ON_RAY))
def test_a_benchmark_on_ray_runs(name: str, tmp_path: Path) -> None:
    run(name, tmp_path)
