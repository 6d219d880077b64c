"""Finishing an attempt whose driver was killed: fence off what still lives, then collect what waits in its spools."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorder.attempt import AttemptWriter
from recorder.bundle import layout
from recorder.checkpoint.record import read_commit_marker
from recorder.ledger import events
from recorder.ledger.ledger import read_events
from recorder.ledger.processes import kill
from recorder.ledger.spool import SUFFIX, SpoolReader


def recover_attempt(bundle: Path, attempt: int, spool_folder: Path, clock: Callable[[], float]) -> None:
    """Bring the record of `attempt` up to the last record its processes wrote on this node, and close it.

    Raises BundleError when the bundle cannot be read.
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
    writer.collector.finish()
    adopt_checkpoints(bundle, writer)
    discarded = discard_partial_checkpoints(bundle)
    writer.finish(events.ATTEMPT_ENDED, outcome="killed", recovered=True, discarded=discarded)
    writer.close_segments()
    shutil.rmtree(spool_folder, ignore_errors=True)


def fence(spool_folder: Path) -> list[dict[str, Any]]:
    """SIGKILL every process of the attempt on this machine that still runs; which ones those were."""
    fenced = []
    for path in sorted(spool_folder.glob(f"*{SUFFIX}")):
        for record in SpoolReader(path).read(4096).records[:1]:
            if record.get("k") == "hello" and kill(record["pid"], record["started"]):
                fenced.append({"origin": path.name, "pid": record["pid"]})
    return fenced


def adopt_checkpoints(bundle: Path, writer: AttemptWriter) -> None:
    """Record checkpoints that were committed on disk before their event could be."""
    known = {event["fields"]["path"] for event in read_events(bundle) if event["type"] == events.CHECKPOINT_SAVED}
    for folder in sorted((bundle / layout.CHECKPOINTS).glob("step-*")):
        path = folder.relative_to(bundle).as_posix()
        if path not in known and (saved := read_commit_marker(folder)):
            writer.add_event(events.CHECKPOINT_SAVED, {"path": path, "recovered": True, **saved})


def discard_partial_checkpoints(bundle: Path) -> list[str]:
    """Remove checkpoints whose writing was cut off; they never were part of the record."""
    partial = sorted((bundle / layout.CHECKPOINTS).glob(f".*{layout.PARTIAL}"))
    for folder in partial:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in partial]
