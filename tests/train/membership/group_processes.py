"""Processes that form groups over loopback, under a real coordinator in the test's process, and can be killed."""

from __future__ import annotations

import multiprocessing
import os
import platform
import queue
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from recorder.ledger.processes import start_ticks
from train.membership import notices
from train.membership.coordinator import Coordinator
from train.membership.group import Group, Meeting, open_meeting
from train.membership.member import Member
from train.membership.messages import Form, Hello, Position, Source
from train.membership.server import CoordinatorServer

HOST, TOKEN = "127.0.0.1", "token"
CPU = torch.device("cpu")
LIMIT = 60.0
# Less than that of the group itself: who waits for that was not woken.
SILENCE_SECONDS = 40


class Seatholder:
    """What a process of the test has: its member, and the groups it forms."""

    def __init__(self, address: str, meeting: str, worker: str, talk: Connection) -> None:
        rank = int(worker.removeprefix("rank-").partition(".")[0])
        hello = Hello(TOKEN, worker, rank, "node", platform.node(), os.getpid(), start_ticks(os.getpid()), HOST)
        self.talk = talk
        self.member = Member(address, hello)
        self.meeting = Meeting(meeting)

    def sit(self, position: Position | None = None) -> Form:
        """Wait for the next membership."""
        return self.member.ready(position, [])

    def group(self, form: Form) -> Group:
        return Group(self.member, form, self.meeting, CPU, HOST, LIMIT)


class Failure(str):
    """The traceback of a process."""


class Process:
    """A process that runs `work(seatholder, *arguments)`; what that returns or says can be heard here."""

    def __init__(self, run: GroupRun, worker: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "train.membership.group", "train.step.exchange"])
        self._talk, theirs = context.Pipe()
        self.worker = worker
        self._process = context.Process(
            target=_run, args=(run.server.address, run.meeting, worker, work, theirs, arguments), daemon=True
        )
        self._process.start()
        theirs.close()

    def hear(self) -> Any:
        """What it says next. Fails with its traceback, or when it says nothing for so long."""
        assert self._talk.poll(SILENCE_SECONDS), f"{self.worker} says nothing"
        said = self._talk.recv()
        assert not isinstance(said, Failure), said
        return said

    def tell(self, text: str) -> None:
        self._talk.send(text)

    def stop(self) -> None:
        """SIGSTOP it, and wait until it has stopped."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self._process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            pass

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


class GroupRun:
    """A coordinator that begins with `workers` processes, and what it gives notice of."""

    def __init__(self, workers: int) -> None:
        store = open_meeting(HOST)
        self._store = store
        self.meeting = f"{HOST}:{store.port}"
        self._notices: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.server = CoordinatorServer(Coordinator(1, hang_seconds=60), TOKEN, HOST, self._notices)
        self.server.call(lambda coordinator, now: coordinator.expect(workers, now))
        self.processes: list[Process] = []

    def start(self, work: Callable[..., Any], *arguments: Any) -> Process:
        process = Process(self, f"rank-{len(self.processes)}.0", work, arguments)
        self.processes.append(process)
        return process

    def begin(self) -> None:
        """Answer that the run begins at step 0, when all are there."""
        self.wait_for(notices.NeedSource)
        self.server.call(lambda coordinator, now: coordinator.begin_from(Source("start", 0), now))

    def wait_for(self, kind: type) -> Any:
        """The next notice of a kind."""
        while True:
            notice = self._notices.get(timeout=60)
            if isinstance(notice, BaseException):
                raise notice
            if isinstance(notice, kind):
                return notice

    def expel(self, worker: str) -> None:
        """Have the coordinator find a worker hung, and end the membership."""
        self.server.call(lambda coordinator, now: coordinator._expel(worker, "hung", {}, now))

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.server.close()


def _run(
    address: str, meeting: str, worker: str, work: Callable[..., Any], talk: Connection, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    try:
        talk.send(work(Seatholder(address, meeting, worker, talk), *arguments))
        talk.recv()  # stays, with its connections open, until it is killed
    except EOFError:
        pass
    except Exception:
        talk.send(Failure(traceback.format_exc()))
