"""What commands print: text for a terminal or a file, and JSON. rich is loaded only by those that lay things out."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from recorder.canonical import encode_non_finite

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}


def say(text: str = "") -> None:
    """Print a line on stdout."""
    sys.stdout.write(f"{text}\n")


def print_json(value: Any) -> None:
    """Print JSON for a program, in ASCII, non-finite numbers as their stated strings."""
    say(json.dumps(encode_non_finite(value), indent=2))


def printable(text: str) -> str:
    """`text` without what could steer a terminal: names and texts in a bundle are a stranger's."""
    visible = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return visible.encode("utf-8", "backslashreplace").decode()


def styled(text: str, style: str) -> str:
    """`text` in a style (good, bad, warn, dim, bold) where stdout is a terminal that should have colours."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def console() -> Console:
    """rich's console on stdout. Text is printed as it is: brackets and colons in it mean nothing."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)
