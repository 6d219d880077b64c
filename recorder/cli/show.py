"""`recorder show RUN`: one run on one screen."""

from __future__ import annotations

import argparse

from recorder.cli.console import console, print_json, printable
from recorder.cli.reference import referenced_bundle
from recorder.errors import BundleError

SUMMARY = "show one run on one screen"
DESCRIPTION = (
    "Shows what a run was, how it went and what is left of it.\n\n"
    "training is the effective training time ratio, of the run and of each attempt: what each step that was kept took\n"
    "its workers on average, summed, divided by the time from the beginning to the end of the attempts.\n"
    "losses is what losing workers cost: steps computed again, worker-seconds, and the time from a worker's death\n"
    "until training went on."
)
EPILOG = "example: recorder show latest\nexit codes: 0, 1 the record is damaged, 2 no such run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run_reference", metavar="RUN", help="id, beginning of an id, path, or latest")


def run(arguments: argparse.Namespace) -> int:
    """Print the portrait of a run."""
    from recorder.bundle.reader import Bundle
    from recorder.cli.portrait import lines, portrait

    path = referenced_bundle(arguments.run_reference, arguments.runs)
    try:
        facts = portrait(Bundle(path))
        shown = [] if arguments.json else list(lines(facts))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"a record of {path.name} is not as its schema says ({error!r}); verify it") from None
    if arguments.json:
        print_json(facts)
    else:
        _print(facts["run"], shown)
    return 0


def _print(title: str, shown: list[tuple[str, str]]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in shown:
        table.add_row(label, "\n".join(map(printable, text.split("\n"))))
    screen = console()
    screen.print(printable(title), style="bold")
    screen.print(table)
