"""`recorder site DIR`: a catalogue of released runs that needs no server."""

from __future__ import annotations

import argparse
from pathlib import Path

from recorder.cli.console import print_json, printable, say
from recorder.cli.quantities import count

SUMMARY = "make a catalogue of the released runs in a folder"
DESCRIPTION = (
    "Writes index.html and a report of each run in the releases in a folder, those that failed or were abandoned\n"
    "included. The list can be searched and sorted, runs of a sweep stand together, and the losses and configs of\n"
    "several runs can be compared. The pages load nothing and need no server. Runs that are not released name hosts,\n"
    "people and places: --unreleased lists them too, for yourself."
)
EPILOG = (
    "examples: recorder site releases --out site\n"
    "          recorder site runs --unreleased --out mine\n"
    "exit codes: 0, 1 a run is damaged (it is listed as that), 2 wrong use"
)


# By whether they were asked for.
_SAID = {
    False: "left out (--unreleased lists them too)",
    True: "their pages name hosts, people and places as recorded; do not publish them",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder of bundles, or of releases that hold some")
    parser.add_argument(
        "--out", type=Path, default=Path("site"), metavar="DIR", help="where to write the pages (default: site)"
    )
    parser.add_argument("--unreleased", action="store_true", help="list runs that are not released, too")


def run(arguments: argparse.Namespace) -> int:
    """Write the pages."""
    from recorder.release.site.pages import INDEX, write_site

    site = write_site(arguments.folder, arguments.out, unreleased=arguments.unreleased)
    entries = site.entries
    damaged = [found for found in entries if found.problem is not None]
    if arguments.json:
        runs = [
            {"run": found.run, "outcome": found.outcome, "page": found.page, "problem": found.problem}
            for found in entries
        ]
        print_json({"index": str(arguments.out / INDEX), "runs": runs, "unreleased": site.unreleased})
    else:
        say(printable(f"{arguments.out / INDEX}: {count(len(entries), 'run')}"))
        if site.unreleased:
            say(f"{count(site.unreleased, 'run')} not released: {_SAID[arguments.unreleased]}")
        for found in damaged:
            say(printable(f"{found.run} is damaged: {found.problem}"))
    return 1 if damaged else 0
