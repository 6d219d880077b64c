"""The curves of a run, of any length, in bounded memory: two passes over its rows, a few columns at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from recorder.bundle import layout
from recorder.bundle.costs import mean_step_seconds
from recorder.bundle.kept_steps import KeptSteps, Row
from recorder.bundle.lanes import Lanes, lanes
from recorder.bundle.reader import Bundle
from recorder.bundle.rows import column_names
from recorder.canonical import parse_utc
from recorder.errors import BundleError
from recorder.ledger.columns import FLOAT, KNOWN, column_type
from recorder.release.report.envelope import Envelope

CAPACITY = 4000
THROUGHPUT = "tokens_per_second"
_PLACE = frozenset({"step", "attempt", "membership", "late"})
_LANES = _PLACE | {"time", "step_seconds", "worker_rank"}
# More lines than these are not told apart: memberships are drawn by attempt, and attempts as one.
_GROUPS = 200


@dataclass
class Line:
    """What a group of rows is: which attempt and membership, None where they are not told apart, and if it counts."""

    attempt: int | None
    membership: int | None
    kept: bool


@dataclass
class Curves:
    """What the rows of a run give. `columns` are its curves over the steps, `system` those over seconds, a node each.

    `training_seconds` are the sums of the kept steps of each attempt, `last_row` the time of its last row; `first` and
    `final` are the kept rows of the first and the last step; `superseded` counts the rows that no longer count.
    """

    kept: KeptSteps
    lanes: Lanes
    lines: dict[str, Line] = field(default_factory=dict)
    columns: dict[str, Envelope] = field(default_factory=dict)
    system: dict[str, Envelope] = field(default_factory=dict)
    training_seconds: dict[int, float] = field(default_factory=dict)
    last_row: dict[int, str] = field(default_factory=dict)
    first: Row | None = None
    final: Row | None = None
    rows: int = 0
    superseded: int = 0


def read_curves(bundle: Bundle) -> Curves:
    """Read the curves of a run. Raises BundleError when the bundle is damaged."""
    try:
        kept = KeptSteps()
        curves = Curves(kept, lanes(bundle.events(), _followed(bundle, kept)))
        _read_metrics(bundle, curves)
        _read_system(bundle, curves)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"a record of {bundle.path.name} is not as its schema says ({error!r}); verify it") from None
    return curves


def _followed(bundle: Bundle, kept: KeptSteps) -> Iterator[Row]:
    for row in bundle.rows(layout.METRICS, _LANES):
        kept.follow(row)
        yield row


def _read_metrics(bundle: Bundle, curves: Curves) -> None:
    names = column_names(bundle.path, layout.METRICS)
    drawn = [name for name in names if column_type(name) == FLOAT]
    curves.columns = {name: Envelope(CAPACITY) for name in (*drawn, THROUGHPUT)}
    own = _own_name(curves.kept)
    before: Row = {}
    for row in bundle.rows(layout.METRICS, _PLACE.union(drawn, {"time", "tokens", "worker_step_seconds"})):
        attempt, membership = own(row)
        line = Line(attempt, membership, curves.kept.kept(row))
        group = f"{line.attempt} {line.membership} {line.kept}"
        curves.lines.setdefault(group, line)
        _follow_row(curves, row, line)
        for name in drawn:
            if (value := row.get(name)) is not None:
                curves.columns[name].add(group, row["step"], value)
        if (rate := _rate(before, row)) is not None:
            curves.columns[THROUGHPUT].add(group, row["step"], rate)
        before = row


def _follow_row(curves: Curves, row: Row, line: Line) -> None:
    attempt = row["attempt"]
    curves.rows += 1
    if "time" in row:
        curves.last_row[attempt] = max(curves.last_row.get(attempt, ""), row["time"])
    if not line.kept:
        curves.superseded += 1
        return
    if math.isfinite(seconds := mean_step_seconds(row)):
        curves.training_seconds[attempt] = curves.training_seconds.get(attempt, 0.0) + seconds
    if curves.first is None or row["step"] < curves.first["step"]:
        curves.first = row
    if curves.final is None or row["step"] >= curves.final["step"]:
        curves.final = row


def _rate(before: Row, row: Row) -> float | None:
    """Tokens of a step by its time; None where the row before is not that of the step before."""
    seconds = row.get("step_seconds")
    if not seconds or before.get("step") != row["step"] - 1 or "tokens" not in before or "tokens" not in row:
        return None
    tokens: int = row["tokens"] - before["tokens"]
    return float(tokens / seconds)


def _own_name(kept: KeptSteps) -> Callable[[Row], tuple[int | None, int | None]]:
    """A function that gives attempt and membership of a row, as far as they are told apart."""
    keys = kept.recorded
    if len(keys) <= _GROUPS:
        return lambda row: (row["attempt"], row["membership"])
    if len({attempt for attempt, _ in keys}) <= _GROUPS:
        return lambda row: (row["attempt"], None)
    return lambda _: (None, None)


def _read_system(bundle: Bundle, curves: Curves) -> None:
    names = [name for name in column_names(bundle.path, layout.SYSTEM_METRICS) if name not in KNOWN]
    curves.system = {name: Envelope(CAPACITY) for name in names}
    start = parse_utc(curves.lanes.start)
    for row in bundle.rows(layout.SYSTEM_METRICS):
        seconds, node = int(parse_utc(row["time"]) - start), str(row.get("node", ""))
        for name in names:
            if (value := row.get(name)) is not None:
                curves.system[name].add(node, seconds, value)
