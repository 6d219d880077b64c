"""What happened in a run: the result of one pass over its ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recorder.bundle import layout
from recorder.ledger import events

# What a later process may write of an attempt whose driver was killed, at a time when that attempt was long over.
_AFTERWARDS = {
    events.ATTEMPT_ENDED,
    events.ATTEMPT_FENCED,
    events.CHECKPOINT_FAILED,
    events.CHECKPOINT_SAVED,
    events.LOG_CLOSED,
    events.LOG_EXTENDED,
    events.RECORD_GAP,
    events.SEGMENT_CLOSED,
    events.SEGMENT_OPENED,
    events.SEGMENT_TORN,
    events.SPOOL_TORN,
}


@dataclass
class Attempt:
    """One life of the driver. `ended` and `outcome` are None while nothing is known of its end; times are UTC text.

    `heard` is the last time at which something happened in it. `recovered` tells that its driver was killed and
    another process wrote its end, at the time `ended`.
    """

    number: int
    started: str
    host: str | None = None
    command: str | list[str] | None = None
    ended: str | None = None
    outcome: str | None = None
    heard: str = ""
    recovered: bool = False


@dataclass
class Checkpoint:
    """A checkpoint that the ledger knows; `removed` is the reason when it is gone. `size` is in bytes."""

    step: int
    path: str
    size: int
    removed: str | None = None


@dataclass
class Course:
    """What one pass over the ledger gives: `counts` are events by type, `times` those of the first and last event."""

    attempts: dict[int, Attempt] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    captured: dict[str, str] = field(default_factory=dict)  # path asked for, path of its newest version
    counts: dict[str, int] = field(default_factory=dict)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    losses: list[dict[str, Any]] = field(default_factory=list)  # fields of worker.lost, and the attempt
    resumptions: list[dict[str, Any]] = field(default_factory=list)  # fields of training.resumed, and the attempt
    workers: list[int] = field(default_factory=list)  # in each membership
    times: tuple[str, str] | None = None

    def follow(self, event: dict[str, Any]) -> None:
        """Take the next event. Raises LookupError, TypeError or AttributeError when it is malformed."""
        kind, fields, time = event["type"], event["fields"], event["time"]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.times = (self.times[0] if self.times else time, time)
        self._hear(event)
        if kind in {events.RUN_STARTED, events.ATTEMPT_STARTED}:
            self.captured |= {layout.first_version(path): path for path in fields.get("files", {})}
        if kind == events.ATTEMPT_STARTED:
            number = event["attempt"]
            attempt = Attempt(number, time, fields.get("host"), fields.get("command"), heard=time)
            self.attempts[number] = attempt
        elif kind == events.ATTEMPT_ENDED:
            attempt = self.attempts.setdefault(event["attempt"], Attempt(event["attempt"], time, heard=time))
            attempt.ended, attempt.outcome = time, fields["outcome"]
            attempt.recovered = fields.get("recovered") is True
        elif kind == events.CHECKPOINT_SAVED:
            size = sum(record["size"] for record in fields["files"].values())
            self.checkpoints[fields["path"]] = Checkpoint(fields["step"], fields["path"], size)
        elif kind == events.CHECKPOINT_REMOVED and fields["path"] in self.checkpoints:
            self.checkpoints[fields["path"]].removed = fields.get("reason", "")
        elif kind == events.EVALUATED:
            self.evaluations.append(fields)
        elif kind == events.WORKER_LOST:
            self.losses.append({"attempt": event["attempt"], **fields})
        elif kind == events.TRAINING_RESUMED:
            self.resumptions.append({"attempt": event["attempt"], **fields})
        elif kind == events.MEMBERSHIP_CHANGED:
            self.workers.append(len(fields["workers"]))

    def _hear(self, event: dict[str, Any]) -> None:
        """An attempt was alive when this happened, unless it is what a later process writes of it."""
        attempt = self.attempts.get(event["attempt"])
        if attempt is not None and ("spool" in event or event["type"] not in _AFTERWARDS):
            attempt.heard = max(attempt.heard, event["time"])
