"""A bundle at a glance: what a list of runs shows, from no more than the ends of ledger and metrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recorder.bundle import find, layout
from recorder.bundle.manifest import read_manifest
from recorder.bundle.rows import newest_rows
from recorder.bundle.state import SEALED, bundle_state
from recorder.canonical import encode_non_finite
from recorder.errors import BundleError
from recorder.ledger import events
from recorder.ledger.lines import read_objects


@dataclass(frozen=True)
class Glance:
    """A run in one line. Where `problem` says that something is damaged, the rest may be missing."""

    run: str
    path: str
    created: str
    state: str
    outcome: str | None = None
    attempts: int | None = None
    last_step: int | None = None
    loss: float | None = None
    problem: str | None = None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        record: dict[str, Any] = encode_non_finite(asdict(self))
        return record


def glance(path: Path) -> Glance:
    """Look at the bundle at `path`; raises nothing for what is damaged in it."""
    seen = Glance(path.name, str(path), find.created(path), bundle_state(path))
    try:
        seen = replace(seen, **_end_of_ledger(path))
        if seen.state == SEALED and (manifest := read_manifest(path)):
            seen = replace(seen, outcome=str(manifest.get("outcome")))
        return replace(seen, **_end_of_metrics(path))
    except (BundleError, OSError, ValueError, LookupError, TypeError) as error:
        return replace(seen, problem=" ".join(str(error).split()) or repr(error))


def _end_of_ledger(path: Path) -> dict[str, Any]:
    """The newest attempt, and how it ended if it did."""
    segments = layout.segments(path, layout.LEDGER)
    newest = [event for _, event in read_objects(segments[-1])] if segments else []
    if not newest:
        return {}
    ended = [event["fields"]["outcome"] for event in newest if event["type"] == events.ATTEMPT_ENDED]
    return {"attempts": newest[-1]["attempt"], "outcome": ended[-1] if ended else None}


def _end_of_metrics(path: Path) -> dict[str, Any]:
    """The last step that was committed, and its loss."""
    rows = newest_rows(path, layout.METRICS)
    if not rows:
        return {}
    last = max(rows, key=lambda row: (row["attempt"], row["membership"], row["step"]))
    return {"last_step": last["step"], "loss": last.get("loss")}
