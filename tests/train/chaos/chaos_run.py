"""A run of the real driver with the real workers, forked; what is played is a `Schedule`."""

from __future__ import annotations

import functools
import io
import os
import platform
import queue
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from chaos_folder import Folder
from chaos_schedule import Schedule
from fork_launcher import ForkLauncher, ForkServer
from helpers.records import captured_files
from hydra import compose, initialize_config_dir

from recorder.bundle import layout
from recorder.canonical import digest, digest_json
from recorder.capture.determinism import determinism_class
from recorder.capture.system import capture_system
from recorder.capture.torch_build import torch_facts
from recorder.checkpoint.memory import remove_memory
from recorder.run import Run
from train.compose import plain, validate
from train.config import Config
from train.data import prepare
from train.launch.job import Job
from train.launch.launcher import Reports
from train.launch.progress import ProgressDisplay
from train.launch.roster import Roster
from train.launch.signals import StopSignals
from train.launch.sources import Sources
from train.launch.supervisor import Supervisor
from train.membership.coordinator import Coordinator
from train.membership.group import open_meeting
from train.membership.server import CoordinatorServer
from train.origin import Origin
from train.step.quorum import Alone
from train.training import Training

# A run takes a second; one that gets nowhere ends after these.
PATIENCE_SECONDS = 60.0

_TINY = [
    "data.megabytes=0.02",
    "data.sequence_length=8",
    "data.validation_fraction=0.1",
    "model.hidden_size=8",
    "model.intermediate_size=8",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=1",
    "model.dropout=0.2",
    "train.micro_batch_size=1",
    "train.eval_every=4",
    "train.eval_micro_batches=3",
    "train.sample_tokens=0",
    "optim.warmup_steps=2",
    "checkpoint.keep=0",
    "recorder.fingerprint_every=1",
    # Any but "local": then each node has a memory of its own.
    "cluster.address=forked",
    "cluster.restarts=20",
]


@dataclass(frozen=True)
class Played:
    """A run that ended: its bundle, its outcome, and the folder in which its processes left word."""

    path: Path
    outcome: str
    folder: Folder


class Stage:
    """Where runs are played: below `root`, with workers forked from `server`."""

    def __init__(self, root: Path, server: ForkServer) -> None:
        self._root = root
        self._server = server
        self._played = 0

    def play(self, plan: Schedule) -> Played:
        """Play a schedule to its end. Raises TimeoutError when there is none."""
        self._played += 1
        config, values = _config(plan, f"chaos-{self._played}", self._root)
        act = _Act(plan, config, values, self._root, self._server)
        return act.run_to_end()


class _Act:
    """One run: what `train.launch.session` does, without Ray and without capturing anything."""

    def __init__(self, plan: Schedule, config: Config, values: dict[str, Any], root: Path, server: ForkServer) -> None:
        self._plan = plan
        self._config = config
        self._values = values
        self._files = captured_files(values)
        self._determinism = _determinism(config)
        self._run = Run.create(
            root / "runs",
            run_id=values["run"]["id"],
            files=self._files,
            spools=root / "spools",
            name="chaos",
            command="python train.py",
            seed=config.seed,
            determinism=self._determinism | {"promised": True},
        )
        self._folder = Folder(root / "words" / self._run.id)
        self._folder.path.mkdir(parents=True)
        self._inbox: Reports = queue.SimpleQueue()
        self._roster = Roster(self._run, config, self._determinism["id"])
        self._display = ProgressDisplay(io.StringIO(), config.train.steps)
        self._launcher = ForkLauncher(
            server, self._run.id, list(plan.nodes), list(plan.faults), self._folder, self._inbox
        )

    def run_to_end(self) -> Played:
        """Train, seal, and tidy up the memory."""
        with self._run, _patience(self._inbox), ExitStack() as afterwards:
            try:
                self._begin()
                outcome = self._supervise(afterwards)
            finally:
                self._launcher.close()
                remove_memory(self._run.path)
            self._run.close(outcome, **self._roster.totals())
        return Played(self._run.path, outcome, self._folder)

    def _begin(self) -> None:
        self._run.observers.append(self._roster.observe)
        placed = self._run.writer.put_files(self._files)
        self._run.begin_attempt(
            command="python train.py",
            host=platform.node(),
            pid=os.getpid(),
            files=placed,
            config=layout.RESOLVED_CONFIG,
            config_digest=digest_json(self._values),
            source_digest=digest(self._files[layout.SOURCE_ARCHIVE]),
            determinism=self._determinism["id"],
            capture_cpu_seconds=0.0,
        )

    def _supervise(self, afterwards: ExitStack) -> str:
        cluster, token, meeting = self._config.cluster, secrets.token_hex(16), open_meeting("127.0.0.1")
        coordinator = Coordinator(cluster.min_workers, cluster.hang_seconds)
        server = CoordinatorServer(coordinator, token, "127.0.0.1", self._inbox)
        afterwards.callback(server.close)
        data = prepare(self._config.data)

        def job(rank: int, incarnation: int) -> Job:
            return Job(
                config=self._values,
                bundle=str(self._run.path),
                data=str(data.folder),
                spool=str(self._run.spool_folder),
                attempt=self._run.attempt,
                rank=rank,
                incarnation=incarnation,
                coordinator=server.address,
                meeting=f"127.0.0.1:{meeting.port}",
                token=token,
                source_digest=digest(self._files[layout.SOURCE_ARCHIVE]),
                device="cpu",
            )

        sources = Sources(self._run, Origin(self._values), self._display.say)
        supervisor = Supervisor(
            self._run, cluster, self._launcher, server, self._inbox, job, sources, self._roster, self._display
        )
        try:
            return supervisor.run_to_end(StopSignals(), self._plan.workers)
        finally:
            server.stop()


def train_alone(played: Played) -> list[tuple[int, str, str, str]]:
    """Step, loss, gradient digest and fingerprint of each step of a run's config, computed in this process."""
    config = validate(yaml.safe_load((played.path / layout.RESOLVED_CONFIG).read_text()))
    threads = torch.get_num_threads()
    torch.set_num_threads(config.cluster.threads)
    training, found = Training(config, prepare(config.data), torch.device("cpu")), []
    for step in range(1, config.train.steps + 1):
        result = training.take_step(False, Alone())
        found.append((step, repr(result.loss), result.gradient_digest, training.fingerprint()))
    torch.set_num_threads(threads)
    return found


@contextmanager
def _patience(inbox: Reports) -> Iterator[None]:
    """Have the supervisor raise TimeoutError when it takes too long."""
    error = TimeoutError(f"the run has not ended after {PATIENCE_SECONDS:.0f} s")
    timer = threading.Timer(PATIENCE_SECONDS, inbox.put, [error])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _config(plan: Schedule, run_id: str, root: Path) -> tuple[Config, dict[str, Any]]:
    """The config of a schedule, and its plain values as they are recorded."""
    base = _base()
    values = base | {
        "run": base["run"] | {"id": run_id},
        "data": base["data"] | {"cache": str(root / "data")},
        "train": base["train"] | {"steps": plan.steps, "micro_batches": plan.micro_batches},
        "cluster": base["cluster"]
        | {"workers": plan.workers, "min_workers": plan.min_workers, "hang_seconds": plan.hang_seconds},
        "checkpoint": base["checkpoint"] | {"every": plan.checkpoint_every, "memory_every": plan.memory_every},
    }
    config = validate(values)
    return config, config.model_dump(by_alias=True, exclude_none=False)


@functools.cache
def _base() -> dict[str, Any]:
    with initialize_config_dir(str(Path(__file__).parents[3] / "conf"), version_base="1.3"):
        return plain(compose("config", _TINY))


@functools.cache
def _machine() -> tuple[dict[str, Any], dict[str, Any]]:
    return capture_system(os.environ), torch_facts()


def _determinism(config: Config) -> dict[str, Any]:
    system, facts = _machine()
    return determinism_class(
        system,
        facts,
        device="cpu",
        threads=config.cluster.threads,
        precision=config.train.precision,
        compile=config.train.compile,
    )
