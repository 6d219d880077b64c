"""A process that has torch and the worker's modules loaded and forks a worker in milliseconds; it tells how each ended.

Started by `ForkServer` with the number of a socket: orders and reports are JSON, one object a line. It never computes
with torch itself, so that a fork copies no threads.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from chaos_faults import Fault, install
from chaos_folder import Folder

import train.worker
from recorder.ledger.processes import start_ticks
from train.launch.job import Job

_PR_SET_PDEATHSIG = 1
_EXCEPTION = 97


@dataclass
class _Process:
    run: str
    worker: str
    node: str
    folder: Folder
    pid: int


class Server:
    """Forks what it is told to, until the other end of `channel` is closed."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._received = b""
        self._processes: dict[int, _Process] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until there is nobody to serve; then every worker is killed."""
        while True:
            # The channel comes last: an order may reap what is among these.
            for key, _ in sorted(self._selector.select(), key=lambda found: found[0].fileobj is self._channel):
                if key.fileobj is not self._channel:
                    self._reap(key.fd)
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        data = self._channel.recv(1 << 20)
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            getattr(self, f"_{order.pop('do')}")(**order)
        return bool(data)

    def _start(self, run: str, job: dict[str, Any], node: str, folder: str, faults: list[dict[str, Any]]) -> None:
        told = Folder(Path(folder))
        worker = Job.from_message(job).worker
        pid = os.fork()
        if pid == 0:
            self._be_worker(job, node, told, [Fault(**fault) for fault in faults])
        told.enter(worker, node, pid, start_ticks(pid))
        handle = os.pidfd_open(pid)
        self._processes[handle] = _Process(run, worker, node, told, pid)
        self._selector.register(handle, selectors.EVENT_READ)

    def _kill(self, run: str, worker: str | None = None) -> None:
        for process in self._processes.values():
            if process.run == run and worker in (None, process.worker):
                os.kill(process.pid, signal.SIGKILL)

    def _close(self, run: str) -> None:
        """Kill all workers of a run; the answer comes after the last of their reports."""
        self._kill(run)
        for handle in [handle for handle, process in self._processes.items() if process.run == run]:
            self._reap(handle)
        self._say(run=run, closed=True)

    def _reap(self, handle: int) -> None:
        process = self._processes.pop(handle)
        self._selector.unregister(handle)
        os.close(handle)
        process.folder.leave(process.worker)
        code = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        evidence: dict[str, Any] = {"message": f"the process ended with {code}"}
        if code == _EXCEPTION:
            evidence["exception"] = {"message": process.folder.failed(process.worker).read_text()}
        elif code < 0:
            evidence["exit_signal"] = signal.Signals(-code).name
        else:
            evidence["exit_code"] = code
        ended = {"worker": process.worker, "died": code not in (0, _EXCEPTION), "evidence": evidence}
        self._say(run=process.run, node=process.node, ended=ended)

    def _say(self, **content: Any) -> None:
        self._channel.sendall(json.dumps(content).encode() + b"\n")

    def _be_worker(self, job: dict[str, Any], node: str, folder: Folder, faults: list[Fault]) -> None:
        """Run one worker in this process, which was forked just now; never returns."""
        _die_with_parent()
        self._selector.close()
        self._channel.close()
        told = Job.from_message(job)
        try:
            install(faults, folder, told.worker, node)
            train.worker.run_worker(told, node, "127.0.0.1")
        except BaseException:
            folder.failed(told.worker).write_text(traceback.format_exc())
            os._exit(_EXCEPTION)
        os._exit(0)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _look_once() -> None:
    """What a worker captures of its machine is the same for all that are forked here."""
    worker: Any = train.worker
    system, facts, packages = worker.capture_system(os.environ), worker.torch_facts(), worker.capture_packages()
    worker.capture_system, worker.torch_facts = lambda _: system, lambda: facts
    worker.capture_packages = lambda: packages


def main() -> None:
    _die_with_parent()
    torch.set_num_threads(1)
    _look_once()
    gc.freeze()
    Server(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
