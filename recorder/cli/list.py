"""`recorder list`: the runs in a folder, newest first."""

from __future__ import annotations

import argparse

from recorder.bundle.find import bundles
from recorder.bundle.glance import Glance, glance
from recorder.bundle.state import OPEN, RUNNING
from recorder.cli.console import console, print_json, printable, say
from recorder.cli.quantities import minute
from recorder.tracking.workspace import lasting

SUMMARY = "list the runs in a folder"
DESCRIPTION = "Lists the bundles in a folder, newest first, with how each ended and how far it came."
EPILOG = "examples: recorder list\n          recorder list --runs /data/runs --json\nexit codes: 0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has none of its own."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """Print the list; an empty one is no error."""
    found = sorted(
        map(glance, bundles(lasting(arguments.runs))), key=lambda seen: (seen.created, seen.run), reverse=True
    )
    if arguments.json:
        print_json([seen.record() for seen in found])
    elif found:
        _print(found)
    else:
        say(f"there is no run in {printable(str(arguments.runs))}; name another folder with --runs DIR")
    return 0


def _print(found: list[Glance]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True, overflow="fold")
    table.add_column("created (UTC)", no_wrap=True)
    table.add_column("how it is")
    for name in ("step", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for seen in found:
        table.add_row(
            printable(seen.run),
            minute(printable(seen.created)),
            printable(_standing(seen)),
            "" if seen.last_step is None else str(seen.last_step),
            "" if seen.loss is None else f"{seen.loss:.4f}",
        )
    console().print(table)


def _standing(seen: Glance) -> str:
    """`finished`, `running`, `open (killed)`, `finished, attempt 2`; what is damaged is said first."""
    if seen.problem:
        return f"damaged: {seen.problem}"
    text = seen.outcome or seen.state
    if seen.state == OPEN:
        text = f"open ({seen.outcome or 'killed'})"
    elif seen.state == RUNNING:
        text = seen.state
    return f"{text}, attempt {seen.attempts}" if seen.attempts is not None and seen.attempts > 1 else text
