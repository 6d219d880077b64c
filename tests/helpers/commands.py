"""Running `train.py` and `recorder` as a user does, and watching what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.rows import read_rows
from recorder.ledger.ledger import read_events
from recorder.ledger.processes import is_alive, start_ticks

REPOSITORY = Path(__file__).parents[2]

# A model and a data set so small that a step takes milliseconds; M=6 is no power of two and no multiple of 4.
TINY = [
    "data.megabytes=0.1",
    "data.sequence_length=32",
    "model.hidden_size=32",
    "model.intermediate_size=64",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=1",
    "train.micro_batches=6",
    "train.micro_batch_size=1",
    "train.eval_micro_batches=4",
    "train.eval_every=0",
    "train.sample_tokens=8",
    "optim.warmup_steps=2",
    "recorder.fingerprint_every=1",
    "recorder.spool=spool",
]


@dataclass
class Finished:
    """A command that ended: its exit code and output."""

    code: int
    out: str
    err: str


class TrainProcess:
    """`python train.py …` in a session of its own, so that a signal to its process group reaches what Ctrl-C would."""

    def __init__(self, folder: Path, *arguments: str, script: Path = REPOSITORY / "train.py") -> None:
        self.folder = folder
        self._out = (folder / f"train-{time.monotonic_ns()}.out").open("w+")
        self._err = (folder / f"train-{time.monotonic_ns()}.err").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            cwd=folder,
            stdout=self._out,
            stderr=self._err,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def wait(self, seconds: float = 240) -> Finished:
        """Wait for the end."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        self._out.seek(0)
        self._err.seek(0)
        return Finished(code, self._out.read(), self._err.read())

    def wait_for(self, condition: Callable[[Path], Any], seconds: float = 120) -> Path:
        """Wait until `condition` holds for the run's bundle, and return the bundle."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for bundle in sorted((self.folder / "runs").glob("[a-z]*")):
                if (bundle / layout.RUN).is_file() and condition(bundle):
                    return bundle
            if self.process.poll() is not None:
                raise AssertionError(f"train.py ended with {self.process.returncode}: {self.wait().err}")
            time.sleep(0.1)
        raise AssertionError("train.py did not get that far in time")

    def interrupt_group(self, number: signal.Signals) -> None:
        """What a terminal does on Ctrl-C: the signal goes to the whole process group."""
        os.killpg(self.process.pid, number)


def train(folder: Path, *arguments: str) -> Finished:
    """Run train.py to its end."""
    return TrainProcess(folder, *arguments).wait()


def recorder(folder: Path, *arguments: str) -> Finished:
    """Run `recorder` to its end."""
    command = [sys.executable, "-m", "recorder.cli.main", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


def only_bundle(folder: Path) -> Path:
    """The one bundle below `folder/runs`."""
    found = [path for path in (folder / "runs").iterdir() if (path / layout.RUN).is_file()]
    assert len(found) == 1, found
    return found[0]


def events_of(bundle: Path, *types: str) -> list[dict[str, Any]]:
    """The events of these types, all when none is named."""
    return [event for event in read_events(bundle) if not types or event["type"] in types]


def has_event(type: str, count: int = 1) -> Callable[[Path], bool]:
    """A condition: at least `count` events of a type are in the ledger."""
    return lambda bundle: len(events_of(bundle, type)) >= count


def reached_step(step: int) -> Callable[[Path], bool]:
    """A condition: the metrics have a row of `step` or later."""
    return lambda bundle: any(row["step"] >= step for row in read_rows(bundle, layout.METRICS))


def steps_of_newest(bundle: Path, count: int) -> int:
    """How many steps the newest membership has committed; -1 when it has not `count` workers."""
    changed = events_of(bundle, "membership.changed")[-1]
    newest = changed["fields"]
    if len(newest["workers"]) != count:
        return -1
    key = (changed["attempt"], newest["membership"])
    return sum((row["attempt"], row["membership"]) == key for row in read_rows(bundle, layout.METRICS))


def bits(bundle: Path) -> dict[int, tuple[Any, ...]]:
    """For each step everything that must not depend on how it was computed: digests, not tolerances.

    Fails when a step that was recorded more than once differs between its records.
    """
    found: dict[int, tuple[Any, ...]] = {}
    for row in read_rows(bundle, layout.METRICS):
        names = ("loss", "grad_norm", "learning_rate", "tokens", "order_digest", "gradient_digest", "fingerprint")
        values = tuple(row.get(name) for name in names)
        assert found.setdefault(row["step"], values) == values, f"step {row['step']} was recorded with other bits"
    return found


def worker_pids(bundle: Path) -> dict[int, int]:
    """Process id of each rank in the newest membership."""
    workers = events_of(bundle, "membership.changed")[-1]["fields"]["workers"]
    return {worker["rank"]: worker["pid"] for worker in workers}


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    """Wait until none of the processes runs; those still alive after `seconds`."""
    started = {pid: start_ticks(pid) for pid in pids}
    deadline = time.monotonic() + seconds
    alive = pids
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = [pid for pid in alive if is_alive(pid, started[pid])]
    return alive


def verify_json(folder: Path, bundle: Path) -> dict[str, Any]:
    """What `recorder verify --json` says."""
    report: dict[str, Any] = json.loads(recorder(folder, "verify", str(bundle), "--json").out)
    return report
