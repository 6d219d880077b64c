"""Every command of README.md runs, as it is written, in a checkout whose defaults are made small."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from helpers.commands import REPOSITORY

SMALL = {
    "conf/config.yaml": {"train": {"steps": 30, "micro_batches": 2, "micro_batch_size": 1, "eval_every": 10}},
    "conf/model/llama.yaml": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1},
    "conf/data/stories.yaml": {"megabytes": 0.2, "sequence_length": 32},
    "conf/experiment/chars.yaml": {"train": {"micro_batches": 2}},
    "conf/checkpoint/default.yaml": {"every": 10},
}


def blocks() -> list[str]:
    """The shell blocks of README.md."""
    return re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name)
    for name, changes in SMALL.items():
        text = (copy / name).read_text()
        header = text.split("\n", 1)[0] if text.startswith("# @package") else ""
        values = yaml.safe_load(text)
        for key, value in changes.items():
            values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
        (copy / name).write_text(f"{header}\n{yaml.safe_dump(values, sort_keys=False)}")
    (copy / ".venv").symlink_to(REPOSITORY / ".venv")
    return copy


@pytest.mark.timeout(900)
def test_every_command_of_the_readme_runs(checkout: Path) -> None:
    script = "set -e\n. .venv/bin/activate\n" + "\n".join(f"set -x\n{block}set +x" for block in blocks())
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    # What `make test ARGS=…` was given is not for the make below.
    environment.pop("MAKEFLAGS", None)
    environment.pop("ARGS", None)
    with (checkout.parent / "out").open("w+") as out:
        done = subprocess.run(
            ["bash", "-c", script], cwd=checkout, stdout=out, stderr=subprocess.STDOUT, env=environment, check=False
        )
        out.seek(0)
        text = out.read()
    assert done.returncode == 0, text[-3000:]
    assert text.count("consistent, unanchored") == 1
    assert text.count("consistent, anchored") == 1
    assert len(blocks()) == 6
    assert not (checkout / "outputs").exists()
