"""A launcher without Ray: workers are forked from one server, and live on nodes that are only names."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chaos_faults import Fault
from chaos_folder import Folder

from train.launch.job import Job
from train.launch.launcher import NodesChanged, ProcessEnded, ProcessStarted, Reports

_HERE = Path(__file__).parent


class ForkServer:
    """The server's process, for many runs one after another or at once."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        paths = [str(_HERE.parents[2]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "fork_server.py"), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        )
        theirs.close()
        self._telling = threading.Lock()
        self.launchers: dict[str, ForkLauncher] = {}
        threading.Thread(target=self._listen, name="fork-server", daemon=True).start()

    def tell(self, do: str, **content: Any) -> None:
        """Give an order."""
        with self._telling:
            self._channel.sendall(json.dumps({"do": do, **content}).encode() + b"\n")

    def close(self) -> None:
        """End the server, and what it started."""
        self._channel.shutdown(socket.SHUT_RDWR)
        self._process.wait(20)
        self._channel.close()

    def _listen(self) -> None:
        received = b""
        while data := self._channel.recv(1 << 20):
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                self.launchers[message.pop("run")].take(**message)


class ForkLauncher:
    """Starts the workers of one run. Rank r is on `nodes[r]`; a node that was lost is followed by one of another name.

    `faults` are for the processes they name.
    """

    def __init__(
        self, server: ForkServer, run: str, nodes: list[str], faults: list[Fault], folder: Folder, reports: Reports
    ) -> None:
        self._server = server
        self._run = run
        self._nodes = nodes
        self._lost: set[str] = set()
        self._faults = faults
        self._folder = folder
        self._reports = reports
        self._closed = threading.Event()
        self._closing = False
        server.launchers[run] = self
        self._tell_nodes()

    def start(self, job: Job) -> None:
        """See `Launcher.start`."""
        folder = str(self._folder.path)
        faults = [asdict(fault) for fault in self._faults if fault.worker == job.worker]
        node = self._living(self._nodes[job.rank])
        self._server.tell("start", run=self._run, job=job.message(), node=node, folder=folder, faults=faults)
        self._reports.put(ProcessStarted(job.worker))

    def kill(self, worker: str) -> None:
        """See `Launcher.kill`."""
        self._server.tell("kill", run=self._run, worker=worker)

    def reopen(self) -> None:
        """There is no cluster that could be lost."""
        raise NotImplementedError

    def close(self) -> None:
        """See `Launcher.close`. A second call does nothing."""
        if not self._closing:
            self._closing = True
            self._server.tell("close", run=self._run)
        if not self._closed.wait(20):
            raise TimeoutError("the fork server does not answer")

    def take(self, node: str = "", ended: dict[str, Any] | None = None, closed: bool = False) -> None:
        """A report of the server."""
        if closed:
            self._closed.set()
        elif ended is not None:
            self._look_at_nodes()
            if node in self._lost and ended["died"]:
                ended["evidence"]["node"] = {"alive": False, "death_reason": 2, "death_message": "it is gone"}
            self._reports.put(ProcessEnded(**ended))

    def _look_at_nodes(self) -> None:
        """A node is lost as soon as a fault says so."""
        lost = {struck["node"] for struck in self._folder.struck() if struck["node"] is not None}
        if lost - self._lost:
            self._lost |= lost
            self._tell_nodes()

    def _living(self, node: str) -> str:
        self._look_at_nodes()
        while node in self._lost:
            node = f"{node}-again"
        return node

    def _tell_nodes(self) -> None:
        names = {name for node in self._nodes for name in _names_until(node, self._lost)}
        states = {
            name: {
                "alive": name not in self._lost,
                "address": "127.0.0.1",
                "death_reason": 2 if name in self._lost else None,
                "death_message": "it is gone" if name in self._lost else None,
            }
            for name in sorted(names)
        }
        self._reports.put(NodesChanged(states, len(self._nodes)))


def _names_until(node: str, lost: set[str]) -> list[str]:
    """The names that a node has had, the last being that of the one that lives."""
    names = [node]
    while names[-1] in lost:
        names.append(f"{names[-1]}-again")
    return names


def new_reports() -> Reports:
    """The queue of one run."""
    return queue.SimpleQueue()
