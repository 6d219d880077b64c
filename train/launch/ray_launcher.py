"""The launcher for Ray: tells a process of its own what to do, and starts another when Ray takes it down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import train
from recorder.errors import MachineError
from train.config import ClusterConfig
from train.launch.job import Job
from train.launch.launcher import (
    ClusterLost,
    ClusterReady,
    ClusterRefused,
    NodesChanged,
    NodesDraining,
    ProcessEnded,
    ProcessStarted,
    Reports,
)

_CLOSE_SECONDS = 20.0


class RayLauncher:
    """Workers on Ray: on a cluster started for this run, or on one that is up. It comes up beside the caller.

    Ray ends a process whose connection to it breaks. That is `ray_process`, not the driver: a cluster that dies is
    reported as `ClusterLost`, and `reopen` begins again.
    """

    def __init__(self, config: ClusterConfig, name: str, gpus: int, reports: Reports) -> None:
        self._config = config
        self._name = name
        self._gpus = gpus
        self._reports = reports
        self._source: dict[str, str] | None = None
        self._closing = False
        self._ready = threading.Event()
        self._refused: str | None = None
        self._room = 0
        self.address = "127.0.0.1"
        self._open()

    def wait_until_ready(self) -> int:
        """Wait for Ray; for how many workers it has room. Raises MachineError when it cannot be had."""
        self._ready.wait()
        if self._refused is not None:
            raise MachineError(self._refused)
        return self._room

    def use_source(self, archive: Path, code: Path) -> None:
        """The recorded archive that workers run; they unpack it below `code`."""
        self._source = {"archive": str(archive), "code": str(code)}
        self._tell("source", **self._source)

    def reopen(self) -> None:
        """Begin again after the cluster was lost: start it, or connect to it."""
        self._channel.close()
        self._open()
        if self._source is not None:
            self._tell("source", **self._source)

    def start(self, job: Job) -> None:
        """See `Launcher.start`."""
        self._tell("start", worker=job.worker, job=job.message())

    def kill(self, worker: str) -> None:
        """See `Launcher.kill`."""
        self._tell("kill", worker=worker)

    def forget(self, nodes: Collection[str] | None) -> None:
        """End every worker, and free what the run has in the memory of `nodes`, or of all; `close` waits for that.

        It needs not be done on a cluster started for this run: all of that is in this machine's memory.
        """
        if self._config.address != "local" and (nodes is None or nodes):
            self._closing = True
            self._tell("forget", nodes=None if nodes is None else sorted(nodes))

    def close(self) -> None:
        """See `Launcher.close`."""
        self._closing = True
        self._tell("close")
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._channel.close()

    def _open(self) -> None:
        self._channel, theirs = socket.socketpair()
        root = str(Path(train.__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "train.launch.ray_process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
            # Ctrl-C is for the driver, which stops the workers in order.
            start_new_session=True,
        )
        theirs.close()
        self._tell(
            "open",
            address=self._config.address,
            workers=self._config.workers,
            cpus_per_worker=self._config.cpus_per_worker,
            gpus=self._gpus,
            name=self._name,
        )
        threading.Thread(
            target=self._listen, args=[self._channel, self._process], name="ray-launcher", daemon=True
        ).start()

    def _tell(self, do: str, **content: Any) -> None:
        # A process that is gone is reported by the thread that listens to it.
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps({"do": do, **content}).encode() + b"\n")

    def _listen(self, channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
        received = b""
        with contextlib.suppress(OSError):
            while data := channel.recv(1 << 20):
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    self._report(json.loads(line))
        code = process.wait()
        if not self._closing:
            evidence = {"exit_signal": signal.Signals(-code).name} if code < 0 else {"exit_code": code}
            self._refused = (
                self._refused or "Ray ended while it was being started; its messages are in the driver's log"
            )
            self._ready.set()
            self._reports.put(ClusterLost(evidence))

    def _report(self, message: dict[str, Any]) -> None:
        match message.pop("say"):
            case "ready":
                self.address = message["address"] if self._config.address != "local" else self.address
                if self._ready.is_set():
                    self._reports.put(ClusterReady(message["workers"]))
                self._room = message["workers"]
                self._ready.set()
            case "refused":
                if self._ready.is_set():
                    self._reports.put(ClusterRefused(message["reason"]))
                self._refused = message["reason"]
                self._ready.set()
            case "started":
                self._reports.put(ProcessStarted(**message))
            case "ended":
                self._reports.put(ProcessEnded(**message))
            case "nodes":
                self._reports.put(NodesChanged(**message))
            case "draining":
                self._reports.put(NodesDraining(**message))
