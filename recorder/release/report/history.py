"""What a report tells of the ledger: moments on the curves, checkpoints with digests, samples of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recorder.bundle.reader import Bundle
from recorder.bundle.stretches import Stretch
from recorder.canonical import decode_float, parse_utc
from recorder.checkpoint.inventory import CheckpointInventory
from recorder.cli.words import words
from recorder.errors import BundleError
from recorder.ledger import events
from recorder.release.report.curves import Curves
from recorder.release.report.envelope import Envelope

# What is marked on the curves, the name of each kind, and the field that says at which step it happened.
MARKED = {
    events.ATTEMPT_STARTED: ("attempt", ""),
    events.MEMBERSHIP_CHANGED: ("membership", "start_step"),
    events.WORKER_LOST: ("lost", "last_step"),
    events.NODE_LOST: ("lost", ""),
    events.CLUSTER_LOST: ("lost", ""),
    events.STATE_DIFFERS: ("lost", "step"),
    events.CHECKPOINT_RESTORED: ("restored", "step"),
    events.WORKER_DRAINED: ("drained", "step"),
}
# Marks of one kind that are closer than this part of the axis are one mark, which says so.
_PLACES = 500
_SAMPLE_BYTES = 400_000


@dataclass(frozen=True)
class Moment:
    """Something that happened at a step, in words; `more` others of its kind happened next to it."""

    step: float
    kind: str
    text: str
    more: int = 0


@dataclass(frozen=True)
class Sample:
    """A text that the model wrote after `step` steps."""

    step: int
    prompt: str
    text: str


@dataclass
class History:
    """`checkpoints` is what `checkpoint.saved` said of those that were kept, by step; `removed` counts the others."""

    moments: list[Moment] = field(default_factory=list)
    validation: Envelope = field(default_factory=lambda: Envelope(1000))
    samples: list[Sample] = field(default_factory=list)
    samples_left_out: int = 0
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    removed: int = 0


def read_history(bundle: Bundle, curves: Curves) -> History:
    """One pass over the ledger. Raises BundleError when it is damaged."""
    history, inventory = History(), CheckpointInventory(bundle.path)
    start = parse_utc(curves.lanes.start)
    moments: list[Moment] = []
    begun: dict[int, int] = {}
    for (attempt, _), ranges in curves.kept.recorded.items():
        begun[attempt] = min(begun.get(attempt, ranges[0][0] - 1), ranges[0][0] - 1)
    try:
        for event in bundle.events():
            kind, fields = event["type"], event["fields"]
            inventory.follow(kind, fields)
            if kind in MARKED:
                at = step_at(curves.lanes.stretches, parse_utc(event["time"]) - start)
                moments.append(_moment(event, begun, at))
            elif kind == events.EVALUATED:
                history.validation.add("validation", fields["step"], decode_float(fields["loss"]))
            elif kind == events.SAMPLE:
                history.samples.append(Sample(fields["step"], str(fields.get("prompt", "")), str(fields["text"])))
            history.removed += kind == events.CHECKPOINT_REMOVED
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"an event in the ledger of {bundle.path.name} is malformed ({error!r})") from None
    history.moments = thinned(moments)
    history.checkpoints = inventory.newest_first()[::-1]
    kept = spread(history.samples, _SAMPLE_BYTES)
    history.samples_left_out = len(history.samples) - len(kept)
    history.samples = kept
    return history


def step_at(stretches: Sequence[Stretch], seconds: float) -> float:
    """How far training had come at a time, from the stretches of steps of its memberships."""
    reached = 0.0
    for seen in stretches:
        if seen.begin > seconds:
            break
        share = (seconds - seen.begin) / (seen.end - seen.begin) if seconds < seen.end else 1.0
        reached = seen.first + share * (seen.last - seen.first)
    return round(reached, 2)


def _moment(event: dict[str, Any], begun: dict[int, int], at: float) -> Moment:
    """What happened `at` a step where the event says none; an attempt is `begun` where it recorded its first."""
    kind, fields = event["type"], event["fields"]
    name, key = MARKED[kind]
    step = begun.get(event["attempt"]) if kind == events.ATTEMPT_STARTED else fields.get(key)
    return Moment(step if isinstance(step, int) else at, name, words(kind, fields))


def thinned(moments: Iterable[Moment]) -> list[Moment]:
    """The moments in order of their steps, those of a kind that no screen could tell apart as one."""
    ordered = sorted(moments, key=lambda moment: moment.step)
    if not ordered:
        return []
    first, span = ordered[0].step, max(1.0, ordered[-1].step - ordered[0].step)
    found: dict[tuple[str, int], Moment] = {}
    for moment in ordered:
        # A short run has room for each.
        place = int(_PLACES * (moment.step - first) / span) if len(ordered) > _PLACES else len(found)
        before = found.get((moment.kind, place))
        found[moment.kind, place] = replace(before, more=before.more + 1) if before else moment
    return list(found.values())


def spread(samples: list[Sample], most: int) -> list[Sample]:
    """As many samples as `most` bytes hold, evenly over the run, the first and the last among them."""
    total = sum(len(sample.text) + len(sample.prompt) for sample in samples)
    if total <= most or len(samples) < 3:
        return samples
    wanted = max(2, len(samples) * most // total)
    places = {round(number * (len(samples) - 1) / (wanted - 1)) for number in range(wanted)}
    return [samples[place] for place in sorted(places)]
