"""A process of a stage whose DVC is killed gets SIGTERM; real processes, and nobody's clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from helpers.commands import REPOSITORY

# Says its id, and when it is told to end; ends by itself when nobody is left to tell it.
STAGE = """
import signal, sys
from train.ancestors import stop_with_dvc
def end(number, frame):
    print("ended by", number, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
stop_with_dvc(lambda text: print("said", text, flush=True))
print("up", flush=True)
signal.pause()
"""
# Stands for DVC: starts a shell with DVC_STAGE in its environment, which starts the stage.
DVC = """
import os, subprocess, sys
stage = subprocess.Popen(["/bin/sh", "-c", '"$0" -c "$1"; true', sys.executable, sys.argv[1]],
                         env=os.environ | {"DVC_STAGE": "train"})
print(stage.pid, flush=True)
stage.wait()
"""


def start() -> tuple[subprocess.Popen[str], int]:
    """The stand-in for DVC with its stage up, and the shell between the two."""
    dvc = subprocess.Popen(
        [sys.executable, "-c", DVC, STAGE], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True
    )
    assert dvc.stdout is not None
    shell = int(dvc.stdout.readline())
    assert dvc.stdout.readline() == "up\n"
    return dvc, shell


@pytest.mark.parametrize("which", ["dvc", "shell"])
def test_the_end_of_an_ancestor_is_a_signal(which: str) -> None:
    dvc, shell = start()
    assert dvc.stdout is not None
    try:
        os.kill(dvc.pid if which == "dvc" else shell, signal.SIGKILL)
        # Its output ends with the stage itself: there is nothing to wait for if that lives on.
        said = dvc.stdout.read()
    finally:
        os.killpg(dvc.pid, signal.SIGKILL) if dvc.poll() is None else None
        dvc.wait()
    assert "the DVC that ran this stage is gone" in said
    assert f"ended by {int(signal.SIGTERM)}" in said


def test_outside_of_a_stage_nobody_is_watched() -> None:
    code = STAGE.replace("signal.pause()", "import threading; print(len(threading.enumerate()))")
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=True
    )
    assert done.stdout.split() == ["up", "1"]
