"""What a person sees while a run trains: one live line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from recorder.ledger import events

_SECONDS_BETWEEN_LINES = 10.0


class ProgressDisplay:
    """Observes a run and shows step, loss, tokens/s, workers, ETA and the last checkpoint on `terminal`.

    Its methods are called from the collector's thread; they only draw.
    """

    def __init__(self, terminal: TextIO, steps: int) -> None:
        self.console = Console(file=terminal, highlight=False, soft_wrap=not terminal.isatty())
        self._steps = steps
        self._step = 0
        self._loss = math.nan
        self._workers = 0
        self._checkpoint = "none"
        self._recent: deque[tuple[float, int]] = deque(maxlen=20)
        self._last_line = time.monotonic()
        self._progress = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._progress.add_task("train", total=steps, completed=0, status="starting workers")
        self._live = self.console.is_terminal

    def start(self) -> None:
        """Begin to draw."""
        if self._live:
            self._progress.start()

    def stop(self) -> None:
        """Stop drawing and leave the terminal as it was."""
        if self._live:
            self._progress.stop()

    def say(self, text: str, style: str = "") -> None:
        """Print a line of its own above the live line, and into the driver's log."""
        self.console.print(Text(text, style))
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def observe(self, kind: str, content: dict[str, Any]) -> None:
        """Take one row, line or event of the run."""
        handler = {
            "row": self._row,
            "line": self._line,
            events.EVALUATED: self._evaluated,
            events.SAMPLE: self._sample,
            events.CHECKPOINT_SAVED: self._saved,
            events.MEMBERSHIP_CHANGED: self._membership,
            events.STEP_NON_FINITE: self._non_finite,
            events.NODE_DIFFERS: self._node_differs,
        }.get(kind)
        if handler is not None:
            handler(content)

    def _row(self, row: dict[str, Any]) -> None:
        self._step, self._loss = row["step"], float(row.get("loss", math.nan))
        self._recent.append((time.monotonic(), row.get("tokens", 0)))
        if self._live:
            self._progress.update(self._task, completed=self._step, status=self._status())
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES or self._step == self._steps:
            self._last_line = time.monotonic()
            self.say(f"step {self._step}/{self._steps}  {self._status()}  {self._remaining()}")

    def _status(self) -> str:
        text = f"loss {self._loss:.4f}  {self._rate():,.0f} tokens/s  {self._workers} workers"
        return f"{text}  checkpoint {self._checkpoint}"

    def _rate(self) -> float:
        """Tokens a second over the last steps."""
        if len(self._recent) < 2:
            return 0.0
        (first, before), (last, now) = self._recent[0], self._recent[-1]
        return (now - before) / (last - first) if last > first else 0.0

    def _remaining(self) -> str:
        if len(self._recent) < 2 or self._recent[-1][0] <= self._recent[0][0]:
            return ""
        a_step = (self._recent[-1][0] - self._recent[0][0]) / (len(self._recent) - 1)
        return f"ETA {(self._steps - self._step) * a_step:.0f} s"

    def _line(self, line: dict[str, Any]) -> None:
        if line["origin"] == "rank-0" and line["stream"] == "stdout":
            self.console.print(f"[dim]rank 0 |[/] {escape(line['text'])}")

    def _evaluated(self, fields: dict[str, Any]) -> None:
        self.say(f"step {fields['step']}: validation loss {float(fields['loss']):.4f}", "bold")

    def _sample(self, fields: dict[str, Any]) -> None:
        text = " ".join(fields["text"].split())
        self.console.print(f"[dim]  sample:[/] {escape(fields['prompt'])}[cyan]{escape(text)}[/]")

    def _saved(self, fields: dict[str, Any]) -> None:
        self._checkpoint = str(fields["step"])

    def _membership(self, fields: dict[str, Any]) -> None:
        self._workers = len(fields["workers"])

    def _non_finite(self, fields: dict[str, Any]) -> None:
        loss, norm = fields["loss"], fields["grad_norm"]
        self.say(f"step {fields['step']}: loss {loss}, gradient norm {norm}; policy: {fields['policy']}", "bold red")

    def _node_differs(self, fields: dict[str, Any]) -> None:
        differing = "; ".join(str(item) for item in fields["differences"][:5])
        self.say(f"node {fields['node'][:12]} differs from the first one: {differing}", "bold yellow")
