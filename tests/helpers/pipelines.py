"""A checkout of this project with a small config, in git and DVC, in which `dvc repro` trains within seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from helpers.commands import REPOSITORY, Finished
from helpers.dvc_repositories import git, isolate_dvc
from recorder.bundle import layout

# A step takes milliseconds, and a run some seconds.
SMALL = {
    "conf/config.yaml": {
        "train": {"steps": 12, "micro_batches": 2, "micro_batch_size": 1, "eval_every": 6, "eval_micro_batches": 2}
    },
    "conf/model/llama.yaml": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    },
    "conf/data/stories.yaml": {"megabytes": 0.1, "sequence_length": 16},
    "conf/checkpoint/default.yaml": {"every": 4, "memory_every": 0},
    "conf/cluster/local.yaml": {"workers": 1},
    "conf/recorder/default.yaml": {"system_every": 0.0},
}

PARTS = ("conf", "recorder", "train", "runs", ".dvc")
FILES = ("train.py", "dvc.yaml", "requirements.lock", ".gitignore", ".dvcignore")


class Checkout:
    """The checkout in `folder`; commands run as its user's would, with `python` and `recorder` on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self._tools = folder.parent / "bin"

    @classmethod
    def make(cls, folder: Path) -> Checkout:
        """A git repository with one commit of the project as it is, the config made small."""
        isolate_dvc(folder.parent / "dvc-settings")
        checkout = cls(folder)
        checkout._copy()
        checkout._make_tools()
        git(folder, "init", "--quiet", "--initial-branch=main")
        for name, changes in SMALL.items():
            checkout.change(name, changes)
        assert checkout.run("python", "-m", "train.stages", "inputs").code == 0
        shutil.rmtree(folder / "pipeline")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message=begin")
        return checkout

    def change(self, name: str, changes: dict[str, Any]) -> None:
        """Change values of a YAML file."""
        values = yaml.safe_load((self.folder / name).read_text())
        for key, value in changes.items():
            values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
        (self.folder / name).write_text(yaml.safe_dump(values, sort_keys=False))

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own."""
        log = self.folder.parent / f"command-{time.monotonic_ns()}.log"
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            env=self.environment(),
        )
        process.log = log  # type: ignore[attr-defined]
        return process

    def run(self, *command: str, seconds: float = 200) -> Finished:
        """Run a command to its end."""
        process = self.start(*command)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{command} hangs: {output(process)}") from None
        return Finished(code, output(process), "")

    def dvc(self, *arguments: str) -> str:
        """Run `dvc` to its end, which must be a good one; its output."""
        done = self.run("dvc", *arguments)
        assert done.code == 0, done.out
        return done.out

    def commit(self) -> None:
        """Commit everything that git does not ignore."""
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--message=trained")

    def environment(self) -> dict[str, str]:
        """That of a user who has activated the virtual environment."""
        return os.environ | {
            "PATH": f"{self._tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "SHELL": "/bin/bash",
        }

    def bundles(self) -> list[Path]:
        """Every bundle, oldest first."""
        found = [path for path in self.runs.iterdir() if (path / layout.RUN).is_file()]
        return sorted(found, key=lambda path: json.loads((path / layout.RUN).read_bytes())["created"])

    def pointer(self) -> dict[str, str]:
        """What the train stage's output names."""
        document: dict[str, str] = json.loads((self.folder / "pipeline/train.json").read_bytes())
        return document

    def wait_for(self, condition: Callable[[Path], Any], process: subprocess.Popen[str], known: int = 0) -> Path:
        """Wait until `condition` holds for the newest bundle after the `known` ones, and return it."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for bundle in self.bundles()[known:][-1:]:
                if condition(bundle):
                    return bundle
            assert process.poll() is None, output(process)
            time.sleep(0.02)
        raise AssertionError(f"it did not get that far: {output(process)}")

    def _copy(self) -> None:
        listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", *PARTS, *FILES]
        for name in filter(None, git(REPOSITORY, *listed).split("\0")):
            if (REPOSITORY / name).is_file() and not name.endswith(".dvc"):
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, self.folder / name)

    def _make_tools(self) -> None:
        self._tools.mkdir(exist_ok=True)
        for name, module in (("recorder", "-m recorder.cli.main"), ("dvc", "-m dvc"), ("python", "")):
            tool = self._tools / name
            tool.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
            tool.chmod(0o755)


def output(process: subprocess.Popen[str]) -> str:
    """What a process has written so far."""
    text: str = process.log.read_text()  # type: ignore[attr-defined]
    return text


def ran(text: str) -> list[str]:
    """The stages that a `dvc repro` with this output has run, in order."""
    return [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")]
