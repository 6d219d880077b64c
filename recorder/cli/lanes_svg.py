"""Lanes as a self-contained SVG: no scripts, nothing loaded, readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from recorder.bundle.costs import Costs
from recorder.bundle.lanes import Lane, Lanes, Mark, Span
from recorder.cli.console import printable
from recorder.cli.losses import loss_words
from recorder.cli.quantities import duration, minute
from recorder.cli.words import words
from recorder.ledger import events

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 960, 190, 20, 76, 22
_CHART = _WIDTH - _LEFT - _RIGHT
_TICKS = 6
_CHARACTER = 6.6  # about how wide one is, in the units of the drawing
_ROUND = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)
_MARKED = (
    ("attempts", events.ATTEMPT_STARTED),
    ("checkpoints", events.CHECKPOINT_SAVED),
    ("in memory", events.SNAPSHOT_SAVED),
    ("restored", events.CHECKPOINT_RESTORED),
    ("differed", events.STATE_DIFFERS),
    ("nodes lost", events.NODE_LOST),
)
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.page { fill: #ffffff } .dim { fill: #59636e } .head { font-weight: 600; font-size: 15px }
.grid { stroke: #d1d9e0 } .change { stroke: #818b98; stroke-dasharray: 2 3 }
.life { fill: #d1d9e0 } .even { fill: #0969da } .odd { fill: #54aeff }
.mark { fill: #59636e } .finished { fill: #1a7f37 } .drained { fill: #9a6700 } .lost { fill: #d1242f }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .page { fill: #0d1117 } .dim, .mark { fill: #9198a1 }
.grid { stroke: #2f3742 } .change { stroke: #656c76 } .life { fill: #3d444d }
.even { fill: #1f6feb } .odd { fill: #79c0ff }
.finished { fill: #3fb950 } .drained { fill: #d29922 } .lost { fill: #f85149 }
}
"""


def lanes_svg(run: str, lanes: Lanes, costs: Costs, *, styled: bool = True) -> str:
    """The whole file. The same lanes give the same text. Without styles it is for a page that has some."""
    rows = [name for name, kind in _MARKED if _marks(lanes, kind)]
    bottom = _TOP + _ROW * (len(lanes.lanes) + 1 + len(rows))
    height = bottom + 18 * len(costs.losses) + 36
    title = f"{run}: who trained when"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" role="img">',
            f"<title>{_text(title)}</title>",
            *([f"<style>{_STYLE}</style>"] if styled else []),
            f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
            _label(16, 26, run, "head"),
            _label(_WIDTH - _RIGHT, 26, f"{minute(lanes.start)} UTC, {duration(lanes.seconds)}", "dim", "end"),
            *_axis(lanes, bottom),
            *_memberships(lanes, bottom),
            *_lanes(lanes),
            *_steps(lanes),
            *_marked(lanes),
            *_losses(costs, bottom),
            "</svg>\n",
        ]
    )


def _axis(lanes: Lanes, bottom: int) -> Iterator[str]:
    """Lines at round times, as many as have room."""
    step = next((step for step in _ROUND if lanes.seconds / step <= _TICKS), lanes.seconds / _TICKS)
    for number in range(int(lanes.seconds / step) + 1 if step else 1):
        x = _x(lanes, number * step)
        yield f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>'
        yield _label(x, _TOP - 30, duration(number * step) if number else "0", "dim", "middle")


def _memberships(lanes: Lanes, bottom: int) -> Iterator[str]:
    free = 0.0
    for mark in _marks(lanes, events.MEMBERSHIP_CHANGED):
        x, name = _x(lanes, mark.seconds), f"m{mark.fields['membership']}"
        line = f'<line class="change" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f"<g>{_tip(mark)}{line}{_label(x, _TOP - 12, name, 'dim') if x >= free else ''}</g>"
        free = max(free, x + _CHARACTER * (len(name) + 1)) if x >= free else free


def _lanes(lanes: Lanes) -> Iterator[str]:
    before = None
    for number, lane in enumerate(lanes.lanes):
        y = _TOP + _ROW * number
        if lane.node != before:
            yield _label(16, y + 15, (lane.node or "")[:14], "node")
        before = lane.node
        yield _label(_LEFT - 12, y + 15, f"rank {lane.rank}", "dim", "end")
        for span in lane.spans:
            yield f"<g><title>{_text(_span_words(lane, span))}</title>{''.join(_span(lanes, span, y))}</g>"


def _span(lanes: Lanes, span: Span, y: int) -> Iterator[str]:
    yield _bar(lanes, span.begin, span.end, y + 8, 6, "life")
    for seen in span.stretches:
        yield _bar(lanes, seen.begin, seen.end, y + 4, 14, "odd" if seen.membership % 2 else "even")
    if span.ended is not None:
        yield _sign(span.ended, _x(lanes, span.end), y + 11)


def _span_words(lane: Lane, span: Span) -> str:
    steps = ", ".join(f"{seen.first} to {seen.last}" for seen in span.stretches)
    end = f", {span.ended}" if span.ended else ""
    why = f" ({span.cause})" if span.cause else ""
    return f"{span.worker} on {lane.node or 'an unknown node'}, attempt {span.attempt}{end}{why}: steps {steps or '-'}"


def _steps(lanes: Lanes) -> Iterator[str]:
    """The first step of each stretch where there is room for it."""
    y, free = _TOP + _ROW * len(lanes.lanes) + 15, 0.0
    yield _label(16, y, "steps", "dim")
    for seen in lanes.stretches:
        x, name = _x(lanes, seen.begin), str(seen.first)
        if x >= free:
            yield _label(x, y, name, "dim")
            free = x + _CHARACTER * (len(name) + 1)


def _marked(lanes: Lanes) -> Iterator[str]:
    """A row for each kind of moment, with the step where there is room for it."""
    y = _TOP + _ROW * (len(lanes.lanes) + 1) + 11
    for name, kind in _MARKED:
        marks = _marks(lanes, kind)
        if not marks:
            continue
        yield _label(16, y + 4, name, "dim")
        free = 0.0
        for mark in marks:
            x, text = _x(lanes, mark.seconds), _mark_label(mark)
            width = _CHARACTER * len(text)
            # At the right edge a text stands before its mark.
            place, anchor = (x + 8, "start") if x + 8 + width <= _WIDTH else (x - 8, "end")
            fits = free <= (x if anchor == "start" else place - width)
            sign = _sign("lost" if kind in {events.NODE_LOST, events.STATE_DIFFERS} else "mark", x, y)
            yield f"<g>{_tip(mark)}{sign}{_label(place, y + 4, text, 'dim', anchor) if fits else ''}</g>"
            free = x + 16 + width if fits else free
        y += _ROW


def _losses(costs: Costs, bottom: int) -> Iterator[str]:
    for number, loss in enumerate(costs.losses):
        y = bottom + 30 + 18 * number
        yield _sign("lost", 21, y - 4)
        yield _label(34, y, loss_words(loss))


def _mark_label(mark: Mark) -> str:
    if mark.type == events.NODE_LOST:
        return str(mark.fields.get("node"))[:14]
    return str(mark.attempt if mark.type == events.ATTEMPT_STARTED else mark.fields["step"])


def _marks(lanes: Lanes, kind: str) -> list[Mark]:
    return [mark for mark in lanes.marks if mark.type == kind]


def _x(lanes: Lanes, seconds: float) -> float:
    return _LEFT + (_CHART * seconds / lanes.seconds if lanes.seconds > 0 else 0.0)


def _bar(lanes: Lanes, begin: float, end: float, y: int, height: int, style: str) -> str:
    """A bar from one time to another, never so short that it cannot be seen."""
    x, width = _x(lanes, begin), max(1.0, _x(lanes, end) - _x(lanes, begin))
    return f'<rect class="{style}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" rx="2"/>'


def _sign(kind: str, x: float, y: float) -> str:
    """A cross for what was lost, a triangle for what left, a square for what finished, else a diamond."""
    shapes = {
        "lost": "M-6-4l2-2 4 4 4-4 2 2-4 4 4 4-2 2-4-4-4 4-2-2 4-4z",
        "drained": "M-4-6l9 6-9 6z",
        "finished": "M-4-7h6v14h-6z",
    }
    return f'<path class="{kind}" transform="translate({x:.1f} {y})" d="{shapes.get(kind, "M0-5l5 5-5 5-5-5z")}"/>'


def _label(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{_text(text)}</text>'


def _tip(mark: Mark) -> str:
    return f"<title>{_text(words(mark.type, mark.fields))}</title>"


def _text(text: str) -> str:
    """Text as XML may hold it: a bundle's names are a stranger's."""
    return escape(printable(text))
