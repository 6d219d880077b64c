"""One call of train.py: one attempt of one run, from the validated config to the seal."""

from __future__ import annotations

import json
import os
import platform
import queue
import secrets
import shutil
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from recorder.bundle import layout
from recorder.bundle.files import write_file
from recorder.capture.determinism import determinism_class
from recorder.capture.torch_build import torch_facts
from recorder.checkpoint.memory import remove_memory
from recorder.errors import MachineError, RecordingError
from recorder.ledger import events
from recorder.ledger.streams import StreamCapture
from recorder.nodes.system_metrics import SystemSampler
from recorder.run import Run, spool_root
from recorder.tracking.background import TrackingOptions, open_tracking
from recorder.tracking.stage_pointer import pointer_to
from recorder.tracking.workspace import lasting, temporary_workspace
from train.config import Config
from train.data import PreparedData, prepare
from train.launch.capture import capture, command_line
from train.launch.devices import gpus_to_use
from train.launch.job import Job
from train.launch.launcher import Reports
from train.launch.progress import ProgressDisplay
from train.launch.ray_launcher import RayLauncher
from train.launch.roster import Roster
from train.launch.signals import StopSignals
from train.launch.sources import Sources
from train.launch.summary import print_summary
from train.launch.supervisor import Supervisor
from train.membership.coordinator import Coordinator
from train.membership.group import open_meeting
from train.membership.server import CoordinatorServer
from train.origin import Origin
from train.stage import StagePart


@dataclass(frozen=True)
class Request:
    """What was asked for: the validated config, where it comes from, and how it was put."""

    config: Config
    part: StagePart
    arguments: list[str]
    hydra: dict[str, Any]
    root: Path
    sweep: str | None = None

    @property
    def origin(self) -> Origin:
        """Where the run comes from."""
        return self.part.origin

    @property
    def folder(self) -> Path:
        """The folder of the bundles."""
        resumed = self.origin.resume
        return resumed.parent if resumed else lasting(Path(self.config.run.dir))


def train(request: Request, terminal: TextIO) -> int:
    """Train as asked, seal the bundle, and return the exit code: 0 finished, 1 failed, 130 or 143 interrupted.

    Raises a RecorderError for whatever is found wrong before the first step, with nothing left behind.
    """
    config = request.config
    if request.part.finished is not None:
        write_pointer(request, request.part.finished)
        return 0
    gpus = gpus_to_use(config.cluster)
    prepared = prepare(config.data, lambda text: print(text, file=terminal, flush=True))
    request.part.check_data(prepared.record)
    prepared.sequences("train", config.data.sequence_length)
    prepared.sequences("validation", config.data.sequence_length)
    session = Session(request, prepared, gpus, terminal)
    return session.run_to_end()


class Session:
    """The driver of one attempt. Its steps are methods in the order in which `run_to_end` calls them."""

    def __init__(self, request: Request, prepared: PreparedData, gpus: int, terminal: TextIO) -> None:
        self._request = request
        self._config = request.config
        self._gpus = gpus
        self._prepared = prepared
        self._terminal = terminal
        self._inbox: Reports = queue.SimpleQueue()
        self._spools = spool_root(request.config.recorder.spool)
        self._run_id = request.origin.resume.name if request.origin.resume else new_run_id(request.config)
        self._display = ProgressDisplay(terminal, request.config.train.steps)
        self._tracking = open_tracking(request.folder, _tracking_options(request.config, request.part), self._show)

    def run_to_end(self) -> int:
        """Train, seal and report. Ray comes up while the rest is being captured."""
        folder = self._spools / self._run_id / "driver"
        with StreamCapture(folder, "driver.0") as streams, StopSignals() as signals:
            launcher = RayLauncher(self._config.cluster, self._run_id, self._gpus, self._inbox)
            try:
                if self._tracking is not None:
                    self._tracking.is_hurried = lambda: bool(signals.received)
                self._open(streams)
                with self._run:
                    return self._attempt(launcher, signals)
            finally:
                launcher.close()
                shutil.rmtree(folder, ignore_errors=True)

    def _open(self, streams: StreamCapture) -> None:
        """Capture everything and open the record of the attempt."""
        self._values = self._recorded_values()
        began = time.thread_time()
        self._captured = capture(self._config, self._values, self._request.root, self._prepared, self._request.hydra)
        self._capture_cpu_seconds = time.thread_time() - began
        self._determinism = determinism_class(
            self._captured.system,
            torch_facts(),
            device="cuda" if self._gpus else "cpu",
            threads=self._config.cluster.threads,
            precision=self._config.train.precision,
            compile=self._config.train.compile,
        )
        self._run = self._open_run()
        streams.move_to(self._run.spool_folder)
        self._roster = Roster(self._run, self._config, self._determinism["id"])

    def _attempt(self, launcher: RayLauncher, signals: StopSignals) -> int:
        """Everything between the start and the end of the attempt; the exit code."""
        started = time.monotonic()
        try:
            outcome = self._run_workers(launcher, signals)
        except RecordingError:
            raise
        except Exception as error:
            self._record_crash(error)
            self._run.close("failed", **self._roster.totals())
            raise
        manifest = self._run.close(outcome, **self._roster.totals())
        remove_memory(self._run.path)
        if outcome == "finished":
            write_pointer(self._request, self._run.path)
        print_summary(self._display, self._run.path, manifest, time.monotonic() - started, self._roster)
        return signals.exit_code or (0 if outcome == "finished" else 1)

    def _run_workers(self, launcher: RayLauncher, signals: StopSignals) -> str:
        """Train; the outcome. Every worker has ended when this returns or raises."""
        with ExitStack() as afterwards:
            try:
                self._begin()
                room = launcher.wait_until_ready()
                self._check_room(room)
                launcher.use_source(self._archive, self._spools / "source")
                return self._supervise(launcher, room, signals, afterwards)
            finally:
                self._display.stop()
                launcher.close()

    def _begin(self) -> None:
        """Record the start of the attempt, begin to collect, and show it."""
        self._run.writer.keep = self._config.checkpoint.keep
        self._run.observers += [self._roster.observe, self._display.observe]
        placed = self._run.writer.put_files(self._captured.files)
        self._archive = (self._run.path / placed_as(placed, layout.SOURCE_ARCHIVE)).resolve()
        self._run.begin_attempt(
            command=command_line(self._request.arguments),
            host=platform.node(),
            pid=os.getpid(),
            files=placed,
            config=placed_as(placed, layout.RESOLVED_CONFIG),
            config_digest=self._captured.config_digest,
            source_digest=self._captured.source_digest,
            determinism=self._determinism["id"],
            capture_cpu_seconds=self._capture_cpu_seconds,
        )
        if self._tracking is not None:
            self._run.track(self._tracking)
        if self._config.recorder.system_every:
            sampler = SystemSampler(self._run.path, self._sampling_failed)
            self._run.sample_system(sampler.sample, self._config.recorder.system_every)
        self._display.say(f"run {self._run.id}, attempt {self._run.attempt}, in {self._run.path}")
        self._display.start()

    def _show(self, text: str) -> None:
        """Tell the person who watches; the record has it as an event."""
        self._display.console.print(text, style="yellow", markup=False)

    def _record_crash(self, error: Exception) -> None:
        """An error of the driver itself is part of the record like any other."""
        text = "".join(traceback.format_exception(error))
        kind, message = type(error).__name__, str(error)
        self._run.event(events.EXCEPTION, rank=None, kind=kind, message=message, expected=False, traceback=text)

    def _sampling_failed(self, message: str) -> None:
        self._run.event(events.RECORD_GAP, series=layout.SYSTEM_METRICS, reason=message)

    def _check_room(self, room: int) -> None:
        """Fewer workers than asked for are made do with; too few would be waited for in vain. Raises MachineError."""
        cluster = self._config.cluster
        if room < cluster.min_workers:
            raise MachineError(
                f"cluster.min_workers={cluster.min_workers} with cluster.cpus_per_worker={cluster.cpus_per_worker} do "
                f"not fit into the cluster, which has room for {room}: lower them, or add nodes"
            )
        if room < cluster.workers:
            said = (
                f"the cluster has room for {room} of cluster.workers={cluster.workers}; the others join when they can"
            )
            self._display.say(said, "yellow")

    def _supervise(self, launcher: RayLauncher, room: int, signals: StopSignals, afterwards: ExitStack) -> str:
        """Serve the workers and keep enough of them; the outcome of the attempt.

        A worker may still be on its way when the run ends: what it connects to is closed `afterwards`.
        """
        cluster, address = self._config.cluster, launcher.address
        meeting = open_meeting(address)
        token = secrets.token_hex(16)
        coordinator = Coordinator(cluster.min_workers, cluster.hang_seconds)
        server = CoordinatorServer(coordinator, token, address, self._inbox)
        afterwards.callback(server.close)
        sources = Sources(self._run, self._request.origin, self._display.say)

        def job(rank: int, incarnation: int) -> Job:
            return Job(
                config=self._values,
                bundle=str(self._run.path.resolve()),
                data=str(self._prepared.folder.resolve()),
                spool=str(self._run.spool_folder),
                attempt=self._run.attempt,
                rank=rank,
                incarnation=incarnation,
                coordinator=server.address,
                meeting=f"{address}:{meeting.port}",
                token=token,
                source_digest=self._captured.source_digest,
                device="cuda" if self._gpus else "cpu",
            )

        supervisor = Supervisor(
            self._run, cluster, launcher, server, self._inbox, job, sources, self._roster, self._display
        )
        try:
            outcome = supervisor.run_to_end(signals, room)
            # An earlier attempt may have been on other nodes.
            launcher.forget(supervisor.untidy_nodes if self._run.attempt == 1 else None)
            return outcome
        finally:
            server.stop()

    def _open_run(self) -> Run:
        origin = self._request.origin
        if origin.resume is not None:
            return Run.resume(origin.resume, spools=self._spools)
        parent = {"run": origin.fork.name, "step": origin.fork_step} if origin.fork else None
        identity = self._request.part.identity
        stage: dict[str, Any] = {} if identity is None else {"stage": identity}
        return Run.create(
            self._request.folder,
            run_id=self._run_id,
            files=self._captured.files,
            spools=self._spools,
            name=self._config.run.name,
            command=command_line(self._request.arguments),
            seed=self._config.seed,
            determinism=self._determinism | {"promised": self._config.train.reduction == "tree"},
            parent=parent,
            sweep=self._request.sweep,
            **stage,
        )

    def _recorded_values(self) -> dict[str, Any]:
        """The config as it is recorded and used: what was asked for, and the id the run got."""
        values = self._config.model_dump(by_alias=True, exclude_none=False)
        values["run"] |= {"id": self._run_id, "resume": None, "params": None, "pointer": None}
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]


def _tracking_options(config: Config, part: StagePart) -> TrackingOptions:
    workspace = temporary_workspace()
    return TrackingOptions(
        config.recorder.dvc,
        config.recorder.push,
        config.recorder.git_commit,
        stage=part.identity is not None,
        workspace=workspace[0] if workspace is not None else None,
    )


def write_pointer(request: Request, bundle: Path) -> None:
    """Name the finished run where that was asked for."""
    if request.config.run.pointer is not None:
        pointer = pointer_to(bundle, request.config.run.dir)
        write_file(Path(request.config.run.pointer), pointer.serialised())


def new_run_id(config: Config) -> str:
    """The configured id, or one of name, time (UTC) and four random digits."""
    if config.run.id is not None:
        return config.run.id
    return f"{config.run.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def placed_as(placed: dict[str, str], path: str) -> str:
    """Under which name this attempt's version of `path` was put."""
    stem, _, suffix = path.partition(".")
    return next(name for name in reversed(placed) if name.startswith(stem) and name.endswith(suffix))
