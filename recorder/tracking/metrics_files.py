"""A run as DVC shows it: one small JSON file for `dvc metrics` and `dvc exp show`, two tables for `dvc plots`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from recorder.bundle.costs import costs, effective_times, total_time
from recorder.bundle.reader import Bundle
from recorder.canonical import readable_json
from recorder.errors import BundleError

METRICS, STEPS, EVALUATIONS = "metrics.json", "steps.csv", "evaluations.csv"

_STEP_COLUMNS = ("step", "loss", "learning_rate", "grad_norm", "tokens", "step_seconds")
_MOST_ROWS = 1500

Row = dict[str, Any]


def metrics_files(bundle: Bundle) -> dict[str, bytes]:
    """File name and content. The same bundle gives the same bytes. Raises BundleError for what is damaged."""
    try:
        rows = bundle.committed.rows
        evaluations = list({found["step"]: found for found in bundle.course.evaluations}.values())
        return {
            METRICS: readable_json(_metrics(bundle, rows, evaluations)),
            STEPS: _table(_STEP_COLUMNS, thinned(rows, _MOST_ROWS)),
            EVALUATIONS: _table(("step", "loss"), evaluations),
        }
    except (LookupError, TypeError, ValueError) as error:
        raise BundleError(f"a record of {bundle.path.name} is not as its schema says ({error!r}); verify it") from None


def thinned(rows: Sequence[Row], most: int) -> list[Row]:
    """At most about `most` of the `rows`: of each stretch the first, the lowest and the highest loss; and the last."""
    if len(rows) <= most:
        return list(rows)
    stretch = math.ceil(3 * len(rows) / most)
    chosen = {len(rows) - 1}
    for begin in range(0, len(rows), stretch):
        places = range(begin, min(begin + stretch, len(rows)))
        finite = [place for place in places if math.isfinite(rows[place].get("loss", math.nan))]
        chosen.add(begin)
        if finite:
            chosen |= {min(finite, key=lambda at: rows[at]["loss"]), max(finite, key=lambda at: rows[at]["loss"])}
    return [rows[place] for place in sorted(chosen)]


def _metrics(bundle: Bundle, rows: Sequence[Row], evaluations: Sequence[Row]) -> dict[str, Any]:
    """What a table of experiments compares; what was not recorded is left out."""
    last, validation = rows[-1] if rows else {}, evaluations[-1] if evaluations else {}
    lost, time = costs(bundle.course), total_time(list(effective_times(bundle.attempts, bundle.committed).values()))
    found = {
        "loss": last.get("loss"),
        "validation_loss": validation.get("loss"),
        "steps": last.get("step", 0),
        "tokens": last.get("tokens"),
        "seconds": round(time.seconds, 1),
        "training_share": None if time.ratio is None else round(time.ratio, 3),
        "attempts": len(bundle.attempts),
        "workers_lost": len(lost.losses),
        "steps_redone": lost.steps_redone,
    }
    return {name: value for name, value in found.items() if value is not None}


def _table(columns: Iterable[str], rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()
