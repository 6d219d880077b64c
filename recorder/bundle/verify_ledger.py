"""The ledger's segments and chain, and what its events say that the rest of the bundle is held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from recorder.bundle import layout, schema
from recorder.bundle.findings import Findings
from recorder.bundle.member_facts import MemberFacts
from recorder.bundle.state_differences import StateDifferences
from recorder.bundle.verify_files import Files
from recorder.ledger import events
from recorder.ledger.chain import check_line
from recorder.ledger.lines import parse_object

Fields = dict[str, Any]


@dataclass
class AttemptFacts:
    """What the ledger says of one attempt."""

    files: dict[str, str] = field(default_factory=dict)
    started: Fields = field(default_factory=dict)
    joined: list[Fields] = field(default_factory=list)
    restored: list[int] = field(default_factory=list)
    finished: list[Fields] = field(default_factory=list)
    members: MemberFacts = field(default_factory=MemberFacts)


@dataclass
class LedgerFacts:
    """What the ledger says, as far as its events could be trusted to be well formed."""

    attempts: dict[int, AttemptFacts] = field(default_factory=dict)
    captured: list[tuple[str, str]] = field(default_factory=list)  # path and BLAKE3, as stated
    saved: dict[str, Fields] = field(default_factory=dict)  # checkpoints that should be there, by path
    removed: set[str] = field(default_factory=set)  # checkpoints that once were there
    set_aside: set[str] = field(default_factory=set)  # damaged checkpoints that were kept
    closed: dict[str, Fields] = field(default_factory=dict)  # closed segments of the series, by path
    logs: dict[str, list[Fields]] = field(default_factory=dict)  # stated prefixes of each log, in order
    closed_logs: set[str] = field(default_factory=set)
    diverged: list[tuple[int, Fields]] = field(default_factory=list)  # with the attempt
    differences: StateDifferences = field(default_factory=StateDifferences)
    outcome: str | None = None
    last_type: str | None = None

    def attempt(self, number: int) -> AttemptFacts:
        """The facts of attempt `number`."""
        return self.attempts.setdefault(number, AttemptFacts())


def check_ledger(files: Files, genesis: str | None, running: bool, findings: Findings) -> LedgerFacts:
    """Check chain, numbering, segments and schema of every event.

    `genesis` is what the chain begins with, None when that is not known. A torn last line is a finding unless the run
    is being written.
    """
    names = [name for name in files.below(layout.LEDGER) if _number(name) is not None]
    for expected, name in enumerate(names, 1):
        if _number(name) != expected:
            findings.add(name, "missing", f"segment {expected} of the ledger is not there")
            break
    reader = _Reader(files, genesis, findings)
    for name in names:
        reader.read(name, torn_allowed=running and name == names[-1])
    return reader.facts


def _number(name: str) -> int | None:
    stem, dot, suffix = name.removeprefix(f"{layout.LEDGER}/").partition(".")
    return int(stem) if dot and suffix == "jsonl" and stem.isdecimal() else None


class _Reader:
    """Goes through the segments in order. After a broken place it goes on from what the next record says of itself."""

    def __init__(self, files: Files, genesis: str | None, findings: Findings) -> None:
        self.facts = LedgerFacts()
        self._files = files
        self._findings = findings
        self._hash = genesis
        self._seq: int | None = 0
        self._attempt: int | None = 1
        self._segment: str | None = None

    def read(self, name: str, torn_allowed: bool) -> None:
        """Check one segment."""
        if not self._files.sound(name):
            self._hash = self._seq = self._attempt = None
        else:
            for number, event in self._events(name, torn_allowed):
                self._check_place(name, number, event)
                self._check_opening(name, number, event)
                self._learn(name, event)
        self._segment = name

    def _events(self, name: str, torn_allowed: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        """The events that are well formed; each is counted and its link in the chain checked."""
        for number, line in enumerate(self._files.lines(name), 1):
            if not line.endswith(b"\n"):
                if not torn_allowed:
                    self._findings.add(name, "torn", f"it ends in the middle of an event, {len(line)} bytes")
                return
            event = self._parse(name, number, line)
            self._findings.counts["events"] += 1
            if event is None:
                self._hash = self._seq = None
                continue
            edited = self._edited(name).get(number)
            if wrong := link_problem(line, event, self._hash or event["prev"], edited):
                self._findings.add(name, "chain", f"line {number}: {wrong}")
            self._hash = event["hash"]
            yield number, event

    def _edited(self, name: str) -> dict[int, str]:
        edit = self._files.altered.edits.get(name)
        return edit.lines if edit is not None else {}

    def _parse(self, name: str, number: int, line: bytes) -> dict[str, Any] | None:
        try:
            event = parse_object(line)
        except (ValueError, RecursionError) as error:
            self._findings.add(name, "chain", f"line {number} is no JSON object: {error}")
            return None
        if wrong := schema.violation(schema.EVENT, event):
            self._findings.add(name, "schema", f"line {number}: {wrong}")
            return None
        return event

    def _check_place(self, name: str, number: int, event: dict[str, Any]) -> None:
        if self._seq is not None and event["seq"] != self._seq + 1:
            self._findings.add(name, "chain", f"line {number}: event {event['seq']} follows event {self._seq}")
        if self._attempt is not None and not self._attempt <= event["attempt"] <= self._attempt + 1:
            wrong = f"line {number}: attempt {event['attempt']} follows attempt {self._attempt}"
            self._findings.add(name, "event", wrong)
        self._seq, self._attempt = event["seq"], event["attempt"]

    def _check_opening(self, name: str, number: int, event: dict[str, Any]) -> None:
        """The first segment begins with the run, each other one by naming the one before, with its digest."""
        if number != 1:
            return
        if self._segment is None:
            if event["type"] != events.RUN_STARTED:
                self._findings.add(name, "event", f"it does not begin with {events.RUN_STARTED}")
            return
        if event["type"] != events.SEGMENT_OPENED:
            self._findings.add(name, "event", f"it does not begin with {events.SEGMENT_OPENED}")
            return
        previous = event["fields"]["previous"]
        if previous["path"] != self._segment:
            self._findings.add(name, "event", f"it follows {previous['path']} by its own word, not {self._segment}")
        elif self._files.sound(self._segment) and (wrong := self._files.difference(self._segment, previous)):
            self._findings.add(self._segment, "event", f"{wrong}, says {name}")

    def _learn(self, name: str, event: dict[str, Any]) -> None:
        kind, fields, facts = event["type"], event["fields"], self.facts
        attempt = facts.attempt(event["attempt"])
        facts.last_type = kind
        attempt.members.follow(kind, fields)
        facts.differences.follow(event["attempt"], kind, fields)
        if kind in {events.RECORD_GAP, events.SEGMENT_TORN, events.SPOOL_TORN}:
            self._findings.note(_stated_gap(name, kind, fields))
        elif kind.startswith("checkpoint."):
            _learn_checkpoint(facts, attempt, kind, fields)
        elif kind in {events.SEGMENT_CLOSED, events.LOG_EXTENDED, events.LOG_CLOSED}:
            _learn_file(facts, kind, fields)
        else:
            _learn_course(facts, event["attempt"], kind, fields)


def link_problem(line: bytes, record: dict[str, Any], previous: str, edited: str | None = None) -> str | None:
    """What is wrong with the link of `record`, whose line is `line`, to the hash before it; None when all is well.

    `edited` is the digest of the line where the addenda list it as edited; its hash is then that of the original.
    """
    try:
        return check_line(line, record, previous, edited)
    except ValueError:
        return "its bytes are not canonical JSON"


def _stated_gap(name: str, kind: str, fields: Fields) -> str:
    if kind == events.RECORD_GAP:
        return f"a gap is recorded: {fields['reason']}"
    torn = fields["spool"] if kind == events.SPOOL_TORN else fields["path"]
    return f"a torn record of {fields['bytes']} bytes at the end of {torn} is kept in {name}"


def _learn_course(facts: LedgerFacts, number: int, kind: str, fields: Fields) -> None:
    attempt = facts.attempt(number)
    if kind in {events.RUN_STARTED, events.ATTEMPT_STARTED}:
        attempt.files |= fields.get("files", {})
        attempt.started |= fields
        facts.captured += fields.get("files", {}).items()
    elif kind == events.NODE_ENVIRONMENT:
        facts.captured += fields.get("environment", {}).items()
    elif kind == events.WORKER_JOINED:
        attempt.joined.append(fields)
    elif kind == events.WORKER_FINISHED:
        attempt.finished.append(fields)
    elif kind == events.STEP_DIVERGED:
        facts.diverged.append((number, fields))
    elif kind == events.RUN_ENDED:
        facts.outcome = fields["outcome"]


def _learn_checkpoint(facts: LedgerFacts, attempt: AttemptFacts, kind: str, fields: Fields) -> None:
    if kind == events.CHECKPOINT_SAVED:
        facts.saved[fields["path"]] = fields
    elif kind == events.CHECKPOINT_REMOVED:
        facts.saved.pop(fields["path"], None)
        facts.removed.add(fields["path"])
        if "kept_as" in fields:
            facts.set_aside.add(fields["kept_as"])
    elif kind == events.CHECKPOINT_RESTORED:
        attempt.restored.append(fields["step"])


def _learn_file(facts: LedgerFacts, kind: str, fields: Fields) -> None:
    if kind == events.SEGMENT_CLOSED:
        facts.closed[fields["path"]] = fields
        return
    facts.logs.setdefault(fields["path"], []).append(fields)
    if kind == events.LOG_CLOSED:
        facts.closed_logs.add(fields["path"])
