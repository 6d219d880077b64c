"""`recorder site DIR`: a catalogue of released runs that needs no server."""

from __future__ import annotations

import argparse
from pathlib import Path

from recorder.cli.console import print_json, printable, say
from recorder.cli.quantities import count

SUMMARY = "make a catalogue of the runs in a folder"
DESCRIPTION = (
    "Writes index.html and a report of each run: all runs in a folder, or in the releases in it, those that failed or\n"
    "were abandoned included. The list can be searched and sorted, runs of a sweep stand together, and the losses and\n"
    "configs of several runs can be compared. The pages load nothing and need no server."
)
EPILOG = "example: recorder site runs --out site\nexit codes: 0, 1 a run is damaged (it is listed as that), 2 wrong use"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder of bundles, or of releases that hold some")
    parser.add_argument(
        "--out", type=Path, default=Path("site"), metavar="DIR", help="where to write the pages (default: site)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the pages."""
    from recorder.release.site.pages import INDEX, write_site

    entries = write_site(arguments.folder, arguments.out)
    damaged = [found for found in entries if found.problem is not None]
    if arguments.json:
        runs = [
            {"run": found.run, "outcome": found.outcome, "page": found.page, "problem": found.problem}
            for found in entries
        ]
        print_json({"index": str(arguments.out / INDEX), "runs": runs})
    else:
        say(printable(f"{arguments.out / INDEX}: {count(len(entries), 'run')}"))
        for found in damaged:
            say(printable(f"{found.run} is damaged: {found.problem}"))
    return 1 if damaged else 0
