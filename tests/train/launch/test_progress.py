"""What a person sees, on a terminal and elsewhere."""

from __future__ import annotations

import io

from train.launch.progress import ProgressDisplay


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(terminal: io.StringIO, *items: tuple[str, dict[str, object]]) -> str:
    display = ProgressDisplay(terminal, 100)
    display.start()
    for kind, content in items:
        display.observe(kind, content)
    display.stop()
    return terminal.getvalue()


ROW = ("row", {"step": 100, "loss": "NaN", "tokens": 4096})
EVENTS: list[tuple[str, dict[str, object]]] = [
    ("membership.changed", {"workers": [{}, {}]}),
    ("checkpoint.saved", {"step": 50}),
    ("evaluated", {"step": 50, "loss": 1.25}),
    ("sample", {"step": 50, "prompt": "Once", "text": " upon\na [bold]time"}),
    ("line", {"origin": "rank-0", "stream": "stdout", "text": "printed [/] by the model"}),
    ("line", {"origin": "rank-1", "stream": "stdout", "text": "of another rank"}),
    ("step.non_finite", {"step": 60, "loss": "NaN", "grad_norm": "Infinity", "policy": "skip"}),
    ("node.differs", {"node": "n" * 40, "differences": [{"torch": "a, b"}]}),
    ("of a type nobody knows", {}),
]


def test_lines_elsewhere_than_on_a_terminal() -> None:
    text = shown(io.StringIO(), *EVENTS, ROW)
    assert "step 100/100  loss nan  0 tokens/s  2 workers  checkpoint 50" in text
    assert "step 50: validation loss 1.2500" in text
    assert "Onceupon a [bold]time" in text.replace(" upon", "upon")
    assert "printed [/] by the model" in text
    assert "of another rank" not in text
    assert "gradient norm Infinity; policy: skip" in text


def test_a_live_line_on_a_terminal() -> None:
    text = shown(Terminal(), *EVENTS, ROW)
    assert "step 100/100" in text
    assert "checkpoint 50" in text
