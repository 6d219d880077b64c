"""What happened in a run: the result of one pass over its ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recorder.bundle import layout
from recorder.ledger import events


@dataclass
class Attempt:
    """One life of the driver. `ended` and `outcome` are None while nothing is known of its end; times are UTC text."""

    number: int
    started: str
    host: str | None = None
    command: str | list[str] | None = None
    ended: str | None = None
    outcome: str | None = None


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
    losses: list[dict[str, Any]] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)  # in each membership
    times: tuple[str, str] | None = None

    def follow(self, event: dict[str, Any]) -> None:
        """Take the next event. Raises LookupError, TypeError or AttributeError when it is malformed."""
        kind, fields, time = event["type"], event["fields"], event["time"]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.times = (self.times[0] if self.times else time, time)
        if kind in {events.RUN_STARTED, events.ATTEMPT_STARTED}:
            self.captured |= {layout.first_version(path): path for path in fields.get("files", {})}
        if kind == events.ATTEMPT_STARTED:
            number = event["attempt"]
            self.attempts[number] = Attempt(number, time, fields.get("host"), fields.get("command"))
        elif kind == events.ATTEMPT_ENDED:
            attempt = self.attempts.setdefault(event["attempt"], Attempt(event["attempt"], time))
            attempt.ended, attempt.outcome = time, fields["outcome"]
        elif kind == events.CHECKPOINT_SAVED:
            size = sum(record["size"] for record in fields["files"].values())
            self.checkpoints[fields["path"]] = Checkpoint(fields["step"], fields["path"], size)
        elif kind == events.CHECKPOINT_REMOVED and fields["path"] in self.checkpoints:
            self.checkpoints[fields["path"]].removed = fields.get("reason", "")
        elif kind == events.EVALUATED:
            self.evaluations.append(fields)
        elif kind == events.WORKER_LOST:
            self.losses.append(fields)
        elif kind == events.MEMBERSHIP_CHANGED:
            self.workers.append(len(fields["workers"]))
