"""Every command of docs/release.md and docs/for-readers.md runs, as it is written: by a lab, then by its reader."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY
from helpers.dvc_repositories import dvc, new_repository
from helpers.hub_server import TOKEN, hub_server
from helpers.object_servers import s3_server
from helpers.outsiders import link_packages, reader_packages
from helpers.trained import llama, trained

from train.data.tokenizer import BytesTokenizer

DOCUMENTS = ("release.md", "for-readers.md")


def blocks(document: str, language: str) -> list[str]:
    text = (REPOSITORY / "docs" / document).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server with a bucket, and a Hub."""
    with s3_server(tmp_path / "s3.log") as port, hub_server() as (address, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/lab", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of commands: those of this environment that a reader's has not."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in (("python3.11", ""), ("model_signing", "-m model_signing")):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def lab_of_the_document(tmp_path: Path) -> Path:
    """A DVC repository with a remote and a finished run that saved two checkpoints."""
    folder = new_repository(tmp_path / "lab-of-the-document")
    dvc(folder, "remote", "add", "--default", "store", str(tmp_path / "store"))
    tokenizer = BytesTokenizer()
    trained(folder / "runs", tokenizer, {100: llama(tokenizer, seed=1), 200: llama(tokenizer, seed=2)})
    (folder / "statement.yaml").write_text(*blocks("release.md", "yaml"))
    return folder


def run(folder: Path, script: str, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-ec", f"set -x\n{script}"],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_every_command_of_the_documents_runs(
    lab_of_the_document: Path, places: None, tools: Path, tmp_path: Path
) -> None:
    lab, path = lab_of_the_document, f"{tools}:{os.environ['PATH']}"
    own = tools / "recorder"
    own.write_text(f'#!/bin/sh\nexec {sys.executable} -m recorder.cli.main "$@"\n')
    own.chmod(0o755)
    done = run(lab, "".join(blocks("release.md", "sh")), PATH=path, PYTHONPATH=str(REPOSITORY))
    assert done.count("published: ") == 5
    assert done.count("nothing was sent") == 1
    assert done.count("withdrawn: ") == 1
    assert done.count("consistent, anchored") == 1
    card = (tmp_path / "releases/stories/README.md").read_text()
    assert "A small model of short English stories." in card
    assert not [*(tmp_path / "releases/small").glob("runs/*/checkpoints/*/optimizer.safetensors")]
    # The reader gets a `recorder` by what the document says, or has none.
    own.unlink()

    reader = tmp_path / "reader"
    reader.mkdir()
    shutil.copy(lab / "key.pub", reader)
    copy_checkout(reader / "run-recorder")
    link_packages(tmp_path / "packages", [*reader_packages("signature"), "setuptools"])
    done = run(
        reader,
        "".join(blocks("for-readers.md", "sh")) + "\ncommand -v recorder\n",
        PATH=path,
        # There is no network in a test: pip finds installed what it would fetch, and fails where that is not enough.
        PYTHONPATH=str(tmp_path / "packages"),
        PIP_NO_INDEX="1",
        PIP_NO_BUILD_ISOLATION="false",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )
    assert done.splitlines()[-1] == str(reader / "reader/bin/recorder")
    assert done.count("consistent, anchored") == 2
    assert "Verification succeeded" in done
    assert {file.parent.name for file in (reader / "early").rglob("model.safetensors")} == {"step-00000100"}
    for script in blocks("for-readers.md", "python"):
        told = subprocess.run([sys.executable, "-c", script], cwd=reader, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr
        assert told.stdout
    assert (len(blocks("release.md", "sh")), len(blocks("for-readers.md", "sh"))) == (5, 6)


def copy_checkout(folder: Path) -> None:
    """What the package is built from."""
    for name in ("recorder", "train"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_options_that_are_named_exist(document: str) -> None:
    text = (REPOSITORY / "docs" / document).read_text()
    code = " ".join(re.findall(r"(?<!`)`(--[^`]+)`(?!`)", text))
    named = set(re.findall(r"--[a-z][a-z-]+", code))
    commands = ("release", "get", "verify", "site", "withdraw")
    helps = [
        subprocess.run([sys.executable, "-m", "recorder.cli.main", name, "--help"], capture_output=True, text=True)
        for name in commands
    ]
    known = set(re.findall(r"--[a-z][a-z-]+", "".join(done.stdout for done in helps)))
    assert named <= known
