"""What a step's agreement costs: a coordinator in this process, members in others, nothing to compute."""

from __future__ import annotations

import multiprocessing
import os
import platform
import queue
import threading
import time
from typing import Any

from recorder.ledger.processes import start_ticks
from train.membership.coordinator import Coordinator
from train.membership.member import Member
from train.membership.messages import Hello, Source
from train.membership.notices import NeedSource
from train.membership.server import CoordinatorServer

_WARM_UP = 200
_TOKEN = "benchmark"
_PATIENCE_SECONDS = 120.0


def quorum_seconds(members: int, rounds: int) -> list[float]:
    """Seconds that each of so many rounds took the first member: arrive, vote, commit."""
    notices: queue.SimpleQueue[Any] = queue.SimpleQueue()
    server = CoordinatorServer(Coordinator(members, 60.0), _TOKEN, "127.0.0.1", notices)
    server.call(lambda coordinator, now: coordinator.expect(members, now))
    threading.Thread(target=_answer, args=[server, notices], daemon=True).start()
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [
        spawn.Process(target=_vote, args=[server.address, rank, rounds + _WARM_UP, results]) for rank in range(members)
    ]
    for process in processes:
        process.start()
    # A member that died sends nothing.
    taken: list[float] = results.get(timeout=_PATIENCE_SECONDS)
    for process in processes:
        process.join()
    server.close()
    return taken[_WARM_UP:]


def _answer(server: CoordinatorServer, notices: queue.SimpleQueue[Any]) -> None:
    """The driver's part: begin at step 0."""
    while not isinstance(notices.get(), NeedSource):
        pass
    server.call(lambda coordinator, now: coordinator.begin_from(Source("start", 0), now))


def _vote(address: str, rank: int, rounds: int, results: Any) -> None:
    pid = os.getpid()
    hello = Hello(_TOKEN, f"rank-{rank}.0", rank, "node", platform.node(), pid, start_ticks(pid), "127.0.0.1")
    member = Member(address, hello)
    member.ready(None, [])
    taken = []
    for step in range(1, rounds + 1):
        began = time.perf_counter()
        member.arrive()
        member.agree("sum", step, "0" * 16)
        member.after_commit()
        taken.append(time.perf_counter() - began)
    # Before the end is agreed on: whoever is first to go may take the connection of the others along.
    if rank == 0:
        results.put(taken)
    member.agree("end", rounds, "")
    member.ended("finished")
