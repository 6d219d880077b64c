"""Whether every committed step is there once, and says the same wherever it was recorded more than once."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

from recorder.bundle import layout
from recorder.bundle.findings import Findings
from recorder.bundle.rows import read_rows
from recorder.bundle.step_ranges import Range, contains, overlaps, shown
from recorder.bundle.verify_config import Promise
from recorder.bundle.verify_files import Files
from recorder.bundle.verify_ledger import LedgerFacts
from recorder.bundle.verify_series import SeriesFacts
from recorder.errors import BundleError

_EQUAL = ("loss", "gradient_digest", "fingerprint")

Promises = dict[int, Promise]


def check_steps(
    files: Files, ledger: LedgerFacts, series: SeriesFacts, promises: Promises, origin: int, findings: Findings
) -> None:
    """Check order and repetition of the steps in the metrics.

    `origin` is the step whose state the run began with: 0, or what it was forked from.
    """
    if files.any_absent(layout.METRICS) or not all(files.sound(name) for name in files.below(layout.METRICS)):
        return
    _check_order(ledger, series, origin, findings)
    _check_repeats(files, ledger, series, promises, findings)
    _check_agreement(ledger, promises, findings)


def _check_order(ledger: LedgerFacts, series: SeriesFacts, origin: int, findings: Findings) -> None:
    """Each attempt goes on from a state that the record reaches, and leaves out no step."""
    reached = within = origin
    before = 0
    for (attempt, membership), added in sorted(series.steps.items()):
        ranges = added.merged()
        first, last = ranges[0][0], ranges[-1][1]
        gaps = [(end + 1, start - 1) for (_, end), (start, _) in pairwise(ranges)]
        limit = reached if attempt != before else within
        if first > limit + 1:
            gaps.insert(0, (limit + 1, first - 1))
        elif attempt != before and not _may_begin(ledger.attempt(attempt).restored, first - 1, origin, before == 0):
            wrong = f"attempt {attempt} begins with {shown((first, first))}, and no event says it was restored there"
            findings.add(layout.METRICS, "steps", wrong)
        for gap in gaps:
            _report_gap(ledger, gap, (before, attempt), membership, findings)
        within = last if attempt != before else max(within, last)
        reached, before = max(reached, last), attempt
    findings.counts["steps"] = reached - origin


def _may_begin(restored: list[int], state: int, origin: int, is_first: bool) -> bool:
    return state in restored or (state == origin and (is_first or not restored))


def _report_gap(
    ledger: LedgerFacts, gap: Range, attempts: tuple[int, int], membership: int, findings: Findings
) -> None:
    where = f"{shown(gap)} before or in attempt {attempts[1]}, membership {membership}"
    if any(facts.members.has_gap for number, facts in ledger.attempts.items() if attempts[0] <= number <= attempts[1]):
        findings.note(f"no row of {where}: the gap is recorded")
    else:
        findings.add(layout.METRICS, "steps", f"no row of {where}")


def _check_repeats(
    files: Files, ledger: LedgerFacts, series: SeriesFacts, promises: Promises, findings: Findings
) -> None:
    """A step recorded twice gave the same bits, where they were promised and all workers' states were the same."""
    ranges = [item for steps in (*series.steps.values(), series.late) for item in steps.raw()]
    repeated = overlaps(ranges)
    if not repeated:
        return
    findings.counts["repeated_steps"] = sum(last - first + 1 for first, last in repeated)
    comparison = _Comparison(ledger, promises, findings)
    try:
        for row in read_rows(files.bundle, layout.METRICS):
            if contains(repeated, row["step"]):
                comparison.add(row)
    except (BundleError, OSError):
        return  # said where the segments were checked
    comparison.conclude()


class _Comparison:
    """Compares each row of a repeated step with the first one of the same promise."""

    def __init__(self, ledger: LedgerFacts, promises: Promises, findings: Findings) -> None:
        self._ledger = ledger
        self._promises = promises
        self._findings = findings
        self._first: dict[Any, dict[str, Any]] = {}
        self._unpromised = self._unequal = self._void = 0

    def add(self, row: dict[str, Any]) -> None:
        """Compare a row; one from a time in which the workers' states differed is only counted."""
        if self._ledger.differences.cover(row["attempt"], row["membership"], row["step"]):
            self._void += 1
            return
        promise = self._promises.get(row["attempt"])
        first = self._first.setdefault((row["step"], promise and promise.key), row)
        differing = [name for name in _EQUAL if not _equal(first.get(name), row.get(name))]
        if not differing:
            return
        self._unequal += 1
        if promise is not None and not promise.promised:
            self._unpromised += 1
        else:
            attempts = f"attempts {first['attempt']} and {row['attempt']}"
            wrong = f"step {row['step']} was recorded twice ({attempts}) with different {', '.join(differing)}"
            self._findings.add(layout.METRICS, "steps", wrong)

    def conclude(self) -> None:
        """Say what was not compared, or that all were equal."""
        note = self._findings.note
        if self._unpromised:
            note(f"{self._unpromised} steps recorded twice differ; train.reduction=native promises no equal bits")
        if self._void:
            note(f"{self._void} rows recorded while the workers' states differed are superseded and were not compared")
        if len({step for step, _ in self._first}) < len(self._first):
            note("steps recorded twice with a different config or determinism class were not compared")
        elif not self._unequal and not self._void:
            note(f"{self._findings.counts['repeated_steps']} steps were recorded more than once, with equal results")


def _equal(a: Any, b: Any) -> bool:
    """Bit for bit, where both have a value."""
    return a is None or b is None or repr(a) == repr(b)


def _check_agreement(ledger: LedgerFacts, promises: Promises, findings: Findings) -> None:
    """The workers of one attempt agreed about each step, or found it out themselves, and ended in the same state."""
    promised = all(promise.promised for promise in promises.values())
    for number, fields in ledger.differences.stated:
        expelled = ", ".join(map(str, fields.get("expelled", []))) or "none"
        found = f"the workers' states differed at step {fields['step']} of attempt {number}; ranks expelled: {expelled}"
        findings.note(found)
    for number, fields in ledger.diverged:
        wrong = f"workers disagreed about step {fields['step']}: {', '.join(fields['differing'])}"
        if promised and not ledger.differences.cover(number, fields.get("membership", 0), fields["step"]):
            findings.add(layout.METRICS, "steps", wrong)
        else:
            findings.note(wrong)
    for number, attempt in ledger.attempts.items():
        ended = defaultdict(set)
        for worker in attempt.finished:
            if worker.get("fingerprint") is not None:
                ended[worker.get("step")].add(worker["fingerprint"])
        for step, fingerprints in ended.items():
            if len(fingerprints) > 1:
                wrong = f"workers of attempt {number} ended step {step} in {len(fingerprints)} different states"
                findings.add(layout.METRICS, "steps", wrong)
