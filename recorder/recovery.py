"""Finishing an attempt whose driver was killed: fence off what still lives, then collect what waits in its spools."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from recorder.attempt import AttemptWriter
from recorder.errors import UsageError
from recorder.ledger import events
from recorder.ledger.ledger import read_events
from recorder.ledger.processes import kill
from recorder.ledger.records import Hello, read_record
from recorder.ledger.spool import SUFFIX, SpoolReader


def recover_attempt(bundle: Path, attempt: int, spool_folder: Path, clock: Callable[[], float]) -> None:
    """Bring the record of `attempt` up to the last record its processes wrote on this node, and close it.

    Raises BundleError when the bundle cannot be read, UsageError when a process of the attempt cannot be killed.
    """
    if any(event["type"] == events.ATTEMPT_ENDED and event["attempt"] == attempt for event in read_events(bundle)):
        return
    fenced = fence(spool_folder)
    writer = AttemptWriter(bundle, attempt, spool_folder, clock, recovering=True)
    for process in fenced:
        writer.add_event(events.ATTEMPT_FENCED, process)
    if not spool_folder.is_dir():
        gap = "the spool folder is not on this machine: records not yet collected when the driver died are missing"
        writer.add_event(events.RECORD_GAP, {"attempt": attempt, "reason": gap})
    writer.finish(events.ATTEMPT_ENDED, outcome="killed", recovered=True)
    writer.close_segments()
    shutil.rmtree(spool_folder, ignore_errors=True)


def fence(spool_folder: Path, spare: Collection[int] = ()) -> list[dict[str, Any]]:
    """Kill every process of the attempt on this machine that still runs, but this one and those to spare; which ones.

    They are gone when this returns. Raises UsageError when one cannot be killed.
    """
    fenced = []
    for path in sorted(spool_folder.glob(f"*{SUFFIX}")):
        hello = _hello(path)
        if hello is None or hello.host != socket.gethostname() or hello.pid in {os.getpid(), *spare}:
            continue
        try:
            killed = kill(hello.pid, hello.started)
        except (PermissionError, TimeoutError) as error:
            why = "it belongs to another user" if isinstance(error, PermissionError) else "it does not end"
            raise UsageError(f"process {hello.pid} still writes this run and cannot be killed: {why}") from None
        if killed:
            fenced.append({"origin": path.name, "pid": hello.pid})
    return fenced


def _hello(spool: Path) -> Hello | None:
    for line in SpoolReader(spool).read(4096)[:1]:
        try:
            record = read_record(line.record or {})
        except ValueError:
            return None
        return record if isinstance(record, Hello) else None
    return None
