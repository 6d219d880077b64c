"""Running the benchmarks, as small as they can be: their figures mean nothing then, but they do run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from helpers.commands import REPOSITORY

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


def run_benchmark(name: str, folder: Path) -> None:
    """Run it in `folder`; it must end well, and print a figure."""
    command = [sys.executable, str(REPOSITORY / "benchmarks" / f"{name}.py"), *ARGUMENTS[name].split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d\.\d\d", done.stdout)
