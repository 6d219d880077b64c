"""The head of a report: what the run was, how it went, who trained when, and what was lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from recorder.bundle.costs import Costs, attempt_times, costs, total_time
from recorder.bundle.lanes import Lanes, Mark
from recorder.bundle.reader import Bundle
from recorder.bundle.state import OPEN, RUNNING
from recorder.cli.lanes_svg import lanes_svg
from recorder.cli.quantities import between, count, duration, minute
from recorder.errors import BundleError
from recorder.ledger import events
from recorder.release.report.curves import Curves
from recorder.release.report.html import Child, Markup, code, section, table, tag, together
from recorder.release.report.step_text import steps_text

_LISTED = 300
# A drawing of more pieces than these would be slower than it is useful.
_DRAWN = 6000
# How many moments of a kind a drawing can tell apart.
_PLACES = 120


@dataclass(frozen=True)
class Standing:
    """How a run ended, in a word and in a sentence; `style` is good, warn or bad."""

    word: str
    sentence: str
    style: str


def standing(bundle: Bundle) -> Standing:
    """How it is with a run: finished, failed, abandoned, running …"""
    if bundle.state == RUNNING:
        return Standing("running", "It was still running when this page was made.", "warn")
    if bundle.state == OPEN:
        how = bundle.outcome or "killed"
        return Standing("abandoned", f"It was never sealed; its last attempt: {how}.", "bad")
    outcome = bundle.outcome or "unknown"
    return Standing(outcome, "Its record is sealed.", "good" if outcome == "finished" else "bad")


def head(bundle: Bundle, curves: Curves) -> Markup:
    """Name, state and key figures of a run."""
    how = standing(bundle)
    created = f"{minute(str(bundle.info.get('created', '')))} UTC"
    root = bundle.manifest["root"] if bundle.manifest else None
    return tag(
        "header",
        tag("h1", bundle.id),
        tag("p", tag("span", how.word, class_=f"badge {how.style}"), f" {how.sentence} Begun {created}."),
        tag("p", "Root of the record: ", code(root), class_="dim") if root else None,
        tag("dl", *(_figure(*figure) for figure in _figures(bundle, curves)), class_="figures"),
    )


def _figure(name: str, value: str, note: str = "") -> Markup:
    return tag("div", tag("dt", name), tag("dd", value, tag("small", note) if note else None))


def _figures(bundle: Bundle, curves: Curves) -> Iterator[tuple[str, str, str]]:
    course = bundle.course
    if curves.final is not None and curves.first is not None:
        last = curves.final["step"]
        yield "Steps", f"{last:,}", f"from {curves.first['step']:,}; {count(curves.superseded, 'row')} superseded"
        if "tokens" in curves.final:
            yield "Tokens", f"{curves.final['tokens']:,}", "trained on since step 0"
        if "loss" in curves.final:
            yield "Training loss", f"{curves.final['loss']:.4f}", f"at step {last:,}"
    if course.evaluations:
        newest = course.evaluations[-1]
        yield "Validation loss", f"{float(newest['loss']):.4f}", f"at step {newest['step']:,}"
    if course.times:
        yield "Time", between(*course.times), f"in {count(len(course.attempts), 'attempt')}"
    times = attempt_times(bundle.attempts, curves.last_row, curves.training_seconds)
    if (ratio := total_time(list(times.values())).ratio) is not None:
        yield "Effective training time", f"{ratio:.0%}", "of the time went to steps that were kept"
    nodes = course.counts.get(events.NODE_LOST, 0)
    yield "Workers lost", f"{len(course.losses):,}", f"and {count(nodes, 'node')}" if nodes else ""


def about(bundle: Bundle) -> Markup:
    """What was started, from what."""
    info = bundle.info
    command = info.get("command")
    rows: list[tuple[Child, ...]] = []
    rows.append(("command", code(" ".join(map(str, command)) if isinstance(command, list) else command or "-")))
    rows += [(name, str(info[name])) for name in ("name", "seed", "sweep", "recorder") if info.get(name) is not None]
    if isinstance(parent := info.get("parent"), dict):
        rows.append(("fork of", f"{parent.get('run')} at step {parent.get('step')}"))
    if isinstance(found := info.get("determinism"), dict):
        promise = "on every machine of this class" if found.get("promised", True) else "not promised"
        rows.append(("same bits", f"{promise}: {found.get('id')}, {found.get('device')}, torch {found.get('torch')}"))
    return section("about", "About", table("What was started", ("", "recorded"), rows))


def course(bundle: Bundle, curves: Curves) -> Markup:
    """Attempts, memberships and losses, and the drawing of who trained when."""
    try:
        lost = costs(bundle.course)
    except (LookupError, TypeError, ValueError) as error:
        raise BundleError(f"an event in the ledger of {bundle.path.name} is malformed ({error!r})") from None
    return section(
        "course",
        "Course",
        _attempts(bundle, curves),
        _losses(lost) if lost.losses else tag("p", "No worker was lost."),
        tag("h3", "Who trained when"),
        _drawing(bundle.id, curves.lanes),
        _memberships(curves),
    )


def _attempts(bundle: Bundle, curves: Curves) -> Markup:
    times = attempt_times(bundle.attempts, curves.last_row, curves.training_seconds)
    rows: list[tuple[Child, ...]] = []
    for attempt in bundle.attempts[-_LISTED:]:
        ratio = times[attempt.number].ratio
        ended = f"{attempt.outcome or 'no end recorded'}{' (told by a later process)' if attempt.recovered else ''}"
        effective = "-" if ratio is None else f"{ratio:.0%}"
        lasted = duration(times[attempt.number].seconds)
        rows.append((str(attempt.number), minute(attempt.started), lasted, effective, ended, attempt.host or "-"))
    head = ("attempt", "begun (UTC)", "lasted", "effective", "end", "driver on")
    caption = "Attempts: lives of the driver" + _cut(len(bundle.attempts), "the newest")
    return table(caption, head, rows, ("lasted", "effective"))


def _losses(lost: Costs) -> Markup:
    rows = [
        (
            "?" if loss.rank is None else str(loss.rank),
            code(loss.worker or "-"),
            code((loss.node or "-")[:24]),
            str(loss.attempt),
            loss.cause,
            "-" if loss.steps_redone is None else f"{loss.steps_redone:,}",
            "-" if loss.worker_seconds_lost is None else f"{loss.worker_seconds_lost:.1f}",
            "-" if loss.resume_seconds is None else duration(loss.resume_seconds),
        )
        for loss in lost.losses[:_LISTED]
    ]
    head = ("rank", "worker", "node", "attempt", "cause", "steps redone", "worker-seconds lost", "training again after")
    return table("Workers lost" + _cut(len(lost.losses), "the first"), head, rows, head[5:])


def _memberships(curves: Curves) -> Markup:
    recorded, superseded = curves.kept.recorded, curves.kept.superseded
    rows = [
        (f"{key[0]}.{key[1]}", steps_text(ranges), steps_text(superseded[key]))
        for key, ranges in list(recorded.items())[:_LISTED]
    ]
    caption = "Memberships: the sets of workers that shared a quorum" + _cut(len(recorded), "the first")
    return table(caption, ("attempt.membership", "steps recorded", "of these computed again later"), rows)


def _cut(length: int, which: str) -> str:
    return f" ({which} {_LISTED} of {length:,}; the ledger has all)" if length > _LISTED else ""


def _drawing(run: str, lanes: Lanes) -> Markup:
    drawn = _drawable(lanes)
    if drawn is None:
        return tag("p", "There are too many workers and memberships to draw here; `recorder timeline` tells them all.")
    # Drawn by this package, every text in it escaped there; the losses are in the table above.
    drawing = Markup(lanes_svg(run, drawn, Costs((), 0, 0, 0.0, ()), styled=False))
    scroll = tag("div", drawing, class_="scroll lanes", tabindex=0, role="region", aria_label="Who trained when")
    left_out = len(lanes.marks) - len(drawn.marks)
    note = f"Of moments that fall on the same place the first is drawn; {left_out:,} are left out." if left_out else ""
    return together([scroll, tag("p", note, class_="dim") if note else None])


def _drawable(lanes: Lanes) -> Lanes | None:
    """The lanes without what would be drawn in the same place; None when there is too much to draw."""
    spans = sum(len(lane.spans) for lane in lanes.lanes)
    stretches = sum(len(span.stretches) for lane in lanes.lanes for span in lane.spans)
    if spans > _DRAWN:
        return None
    if spans + stretches > _DRAWN:
        bare = [replace(lane, spans=tuple(replace(s, stretches=()) for s in lane.spans)) for lane in lanes.lanes]
        lanes = replace(lanes, lanes=tuple(bare))
    return replace(lanes, marks=tuple(_thinned(lanes)))


def _thinned(lanes: Lanes) -> Iterator[Mark]:
    """The marks, of those of a kind that fall on the same place the first."""
    seen: set[tuple[Any, ...]] = set()
    for mark in lanes.marks:
        place = mark.type, int(_PLACES * mark.seconds / lanes.seconds) if lanes.seconds > 0 else 0
        if place not in seen or len(lanes.marks) <= _PLACES:
            yield mark
        seen.add(place)
