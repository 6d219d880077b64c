"""The series: their segments, headers and chains, and which steps their rows are about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from recorder.bundle import layout
from recorder.bundle.findings import Findings
from recorder.bundle.step_ranges import StepRanges
from recorder.bundle.verify_files import Files
from recorder.bundle.verify_ledger import link_problem
from recorder.errors import BundleError
from recorder.ledger.lines import parse_object

_SEGMENT = re.compile(r"[^/]+/(\d+)\.(jsonl|parquet)")
_HASH = re.compile(r"[0-9a-f]{64}")
_KEYS = ("attempt", "membership", "step")
_RANKS = "worker_rank"

Ranks = tuple[int, ...]


@dataclass
class SeriesFacts:
    """What is in a series' segments: rows of each, and for metrics the steps of each (attempt, membership).

    `parts` has the steps once more, by the ranks of the workers that a row is made from.
    """

    rows: dict[str, int] = field(default_factory=dict)
    steps: dict[tuple[int, int], StepRanges] = field(default_factory=dict)
    late: StepRanges = field(default_factory=StepRanges)
    parts: dict[tuple[int, int], dict[Ranks, StepRanges]] = field(default_factory=dict)  # by the ranks in a row
    fingerprints: dict[int, str] = field(default_factory=dict)  # of the steps that were asked for


def check_series(
    files: Files, series: str, genesis: str | None, running: bool, wanted: set[int], findings: Findings
) -> SeriesFacts:
    """Check every segment of `series`, open or closed, and learn what is in it.

    `wanted` are steps whose fingerprints are needed. A torn last line is a finding unless the run is being written.
    """
    if files.any_absent(series):
        return SeriesFacts()
    reader = _Reader(files, series, genesis, wanted, findings)
    numbered = _segments(files, series, findings)
    before = 0
    for number, name in numbered:
        if number != before + 1:
            findings.add(name, "missing", f"segment {before + 1} of {series} is not there")
        before = number
        reader.read(number, name, torn_allowed=running and number == numbered[-1][0])
    return reader.facts


def _segments(files: Files, series: str, findings: Findings) -> list[tuple[int, str]]:
    """Number and name of each segment; where a closed one and the open one it was made from are there, the closed."""
    found: dict[int, str] = {}
    withheld = [name for name in files.altered.tombstones if name.startswith(f"{series}/") and files.withheld(name)]
    for name in sorted([*files.below(series), *withheld]):
        if match := _SEGMENT.fullmatch(name):
            number = int(match[1])
            if number in found:
                findings.note(f"{found[number]} was being closed when its writer ended; {name} counts")
            found[number] = name
    return sorted(found.items())


class _Reader:
    """Goes through the segments in order. After a broken place it goes on from what the next record says of itself."""

    def __init__(self, files: Files, series: str, genesis: str | None, wanted: set[int], findings: Findings) -> None:
        self.facts = SeriesFacts()
        self._files = files
        self._series = series
        self._wanted = wanted
        self._findings = findings
        self._hash = genesis
        self._previous: str | None = None

    def read(self, number: int, name: str, torn_allowed: bool) -> None:
        """Check one segment."""
        if not self._files.sound(name):
            self._hash = None
        elif name.endswith(".parquet"):
            self._read_closed(number, name)
        else:
            self._read_open(number, name, torn_allowed)
        self._previous = name

    def _read_closed(self, number: int, name: str) -> None:
        from recorder.ledger.parquet import read_segment

        try:
            segment = read_segment(self._files.bundle / name)
            edit = self._files.altered.edits.get(name)
            if wrong := segment.check(self._hash or segment.prev, edit.rows if edit else ()):
                self._findings.add(name, "chain", wrong)
            self._check_header(number, name, segment.header)
            self._hash = segment.last_hash
            self._learn(_columns(segment.table, self._series))
        except (BundleError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._findings.add(name, "chain", f"it is no closed segment of {self._series} ({error})")
            self._hash = None
            return
        self.facts.rows[name] = segment.table.num_rows

    def _read_open(self, number: int, name: str, torn_allowed: bool) -> None:
        for place, line in enumerate(self._files.lines(name), 1):
            if not line.endswith(b"\n"):
                if not torn_allowed:
                    self._findings.add(name, "torn", f"it ends in the middle of a row, {len(line)} bytes")
                return
            record = self._parse(name, place, line)
            if record is None:
                self._hash = None
                continue
            edit = self._files.altered.edits.get(name)
            edited = edit.lines.get(place) if edit else None
            if wrong := link_problem(line, record, self._hash or record["prev"], edited):
                self._findings.add(name, "chain", f"line {place}: {wrong}")
            self._hash = record["hash"]
            if place == 1:
                self._check_header(number, name, record.get("header"))
            else:
                self._learn([record])
                self.facts.rows[name] = place - 1

    def _parse(self, name: str, place: int, line: bytes) -> dict[str, Any] | None:
        try:
            record = parse_object(line)
            if not all(_HASH.fullmatch(record[key]) for key in ("prev", "hash")):
                raise ValueError("prev and hash are not digests")
            if place > 1 and self._series == layout.METRICS:
                _check_keys(record)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            self._findings.add(name, "chain", f"line {place} is no record of a series: {error}")
            return None
        return record

    def _check_header(self, number: int, name: str, header: Any) -> None:
        """The header says which segment of what this is, and names the one before with its digest."""
        if not isinstance(header, dict) or header.get("series") != self._series or header.get("segment") != number:
            self._findings.add(name, "chain", f"its header is not that of segment {number} of {self._series}")
            return
        stated = header.get("previous")
        if self._previous is None or not self._files.sound(self._previous):
            return
        if not isinstance(stated, dict) or stated.get("path") != self._previous:
            self._findings.add(name, "chain", f"its header does not name {self._previous} as the segment before")
        elif wrong := self._files.difference(self._previous, stated):
            self._findings.add(self._previous, "chain", f"{wrong}, says the header of {name}")

    def _learn(self, rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> None:
        if self._series != layout.METRICS:
            return
        for row in rows:
            attempt, membership, step = (row[key] for key in _KEYS)
            parts = self.facts.parts.setdefault((attempt, membership), {})
            parts.setdefault(tuple(row.get(_RANKS) or ()), StepRanges()).add(step)
            if row.get("late"):
                self.facts.late.add(step)
            else:
                self.facts.steps.setdefault((attempt, membership), StepRanges()).add(step)
            if step in self._wanted and row.get("fingerprint") is not None:
                self.facts.fingerprints[step] = row["fingerprint"]


def _columns(table: Any, series: str) -> Iterator[dict[str, Any]]:
    """The rows of a closed segment, but only the columns that are needed here."""
    if series != layout.METRICS:
        return
    names = [name for name in (*_KEYS, _RANKS, "late", "fingerprint") if name in table.column_names]
    for values in zip(*(table.column(name).to_pylist() for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        _check_keys(row)
        yield row


def _check_keys(row: dict[str, Any]) -> None:
    """Raise ValueError unless the row says what step of which attempt and membership it is about."""
    if not all(isinstance(row.get(key), int) and row[key] >= 0 for key in _KEYS):
        raise ValueError("a row lacks attempt, membership or step")
    if not all(isinstance(rank, int) for rank in row.get(_RANKS) or ()):
        raise ValueError(f"the {_RANKS} of a row are no numbers")
