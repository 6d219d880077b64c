"""Lanes as text: a line for each node and rank, as wide as the terminal, readable without colour."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby

from recorder.bundle.costs import Costs
from recorder.bundle.lanes import Lane, Lanes, Mark
from recorder.cli.console import printable, styled
from recorder.cli.losses import loss_words
from recorder.cli.quantities import duration
from recorder.ledger import events

_LABEL_WIDTH = 22
_NARROWEST = 20
_NODE_WIDTH = 12
_LIVES, _TRAINS, _FINISHED, _DRAINED, _LOST = "╌━■▷✗"
_ENDS = {"finished": _FINISHED, "drained": _DRAINED, "lost": _LOST}
_STYLES = {_LIVES: "dim", _TRAINS: "good", _FINISHED: "good", _DRAINED: "warn", _LOST: "bad"}
_LEGEND = f"{_TRAINS} trains, {_LIVES} does not, {_FINISHED} ends in order, {_DRAINED} drained, {_LOST} lost"
# One line each, where anything of the kind happened.
_MARKED = (
    ("checkpoints", events.CHECKPOINT_SAVED),
    ("in memory", events.SNAPSHOT_SAVED),
    ("restored", events.CHECKPOINT_RESTORED),
    ("differed", events.STATE_DIFFERS),
)


def lanes_text(lanes: Lanes, costs: Costs, columns: int) -> Iterator[str]:
    """The lines, none wider than `columns` (at least 43): memberships, lanes, steps, saved states, losses."""
    chart = _Chart(lanes.seconds, max(_NARROWEST, columns - _LABEL_WIDTH - 1))
    end = duration(lanes.seconds)
    yield _line("", f"0{end:>{chart.width - 1}}")
    attempts = [mark for mark in lanes.marks if mark.type == events.ATTEMPT_STARTED]
    if len(attempts) > 1:
        yield _line("attempts", chart.labels((mark.seconds, str(mark.attempt)) for mark in attempts))
    changed = [mark for mark in lanes.marks if mark.type == events.MEMBERSHIP_CHANGED]
    if changed:
        yield _line("memberships", chart.labels((mark.seconds, str(mark.fields["membership"])) for mark in changed))
    before = None
    for lane in lanes.lanes:
        node = printable(lane.node or "")[:_NODE_WIDTH]
        label = f"{'' if node == before else node:<{_NODE_WIDTH}} rank {lane.rank}"
        before = node
        yield _line(label, _coloured(chart.lane(lane)))
    yield _line("steps", chart.labels((seen.begin, str(seen.first)) for seen in lanes.stretches))
    for name, kind in _MARKED:
        marks = [mark for mark in lanes.marks if mark.type == kind]
        if marks:
            yield _line(name, chart.labels((mark.seconds, str(mark.fields["step"])) for mark in marks))
    nodes = [mark for mark in lanes.marks if mark.type in {events.NODE_LOST, events.NODE_DRAINING}]
    if nodes:
        yield _line("nodes", chart.labels((mark.seconds, _node_label(mark)) for mark in nodes))
    if lanes.lanes:
        yield from (styled(line, "dim") for line in textwrap.wrap(_LEGEND, columns))
    for loss in costs.losses:
        yield from textwrap.wrap(printable(f"{_LOST} {loss_words(loss)}"), columns, subsequent_indent="  ")


class _Chart:
    """A stretch of time as `width` characters."""

    def __init__(self, seconds: float, width: int) -> None:
        self.width = width
        self._seconds = seconds

    def lane(self, lane: Lane) -> str:
        """What the processes of a lane did; of what happened within one character, the end counts most."""
        cells = [" "] * self.width
        for span in lane.spans:
            self._fill(cells, span.begin, span.end, _LIVES)
            for seen in span.stretches:
                self._fill(cells, seen.begin, seen.end, _TRAINS)
        for span in lane.spans:
            if span.ended is not None:
                cells[self._cell(span.end)] = _ENDS[span.ended]
        return "".join(cells).rstrip()

    def labels(self, placed: Iterable[tuple[float, str]]) -> str:
        """Texts at their times; one that has no room is a dot, or nothing where there is none for that either."""
        line = ""
        for seconds, text in sorted(placed):
            cell = self._cell(seconds)
            if cell < len(line) or (line and cell == len(line)):
                line += "·" if cell == len(line) < self.width and not line.endswith("·") else ""
            elif cell + len(text) <= self.width:
                line = f"{line:<{cell}}{text}"
            else:
                line = f"{line:<{max(len(line) + 1, self.width - len(text))}}{text}"[: self.width]
        return line

    def _fill(self, cells: list[str], begin: float, end: float, character: str) -> None:
        first, last = self._cell(begin), self._cell(end)
        cells[first : last + 1] = character * (last + 1 - first)

    def _cell(self, seconds: float) -> int:
        place = seconds / self._seconds if self._seconds > 0 else 0.0
        return min(self.width - 1, int(place * self.width))


def _node_label(mark: Mark) -> str:
    sign = _LOST if mark.type == events.NODE_LOST else _DRAINED
    return f"{sign} {printable(str(mark.fields.get('node')))[:_NODE_WIDTH]}"


def _line(label: str, text: str) -> str:
    return f"{label[:_LABEL_WIDTH]:<{_LABEL_WIDTH}} {text}".rstrip()


def _coloured(cells: str) -> str:
    runs = ("".join(run) for _, run in groupby(cells))
    return "".join(styled(run, _STYLES[run[0]]) if run[0] in _STYLES else run for run in runs)
