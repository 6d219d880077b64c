"""`recorder repair RUN`: fetch what is damaged or missing from wherever a copy verifies."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from recorder.cli.console import print_json, printable, say, styled
from recorder.cli.quantities import count
from recorder.cli.reference import referenced_bundle

if TYPE_CHECKING:
    from recorder.tracking.repair import Repair

SUMMARY = "replace what is damaged by copies that verify"
DESCRIPTION = (
    "Checks every file of a bundle that DVC tracks, and its object in DVC's cache, and replaces what is damaged\n"
    "or missing by a copy from the bundle, the cache or a remote, whichever has the recorded digests."
)
EPILOG = (
    "examples: recorder repair latest\n"
    "          recorder repair demo-1 --remote store   take copies from this remote only\n"
    "exit codes: 0 all is as recorded now, 1 something has no good copy, 2 no such run, or one that is not tracked,\n"
    "            is being written, or went on since it was tracked"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run_reference", metavar="RUN", help="id, beginning of an id, path, or latest")
    parser.add_argument("--remote", metavar="NAME", help="the DVC remote to take copies from (default: all of them)")


def run(arguments: argparse.Namespace) -> int:
    """Repair, print, and return 0 when all is as recorded."""
    from recorder.tracking.repair import repair_run

    path = referenced_bundle(arguments.run_reference, arguments.runs)
    files, repairs = repair_run(path, arguments.remote, _tell)
    ok = all(repair.source is not None for repair in repairs)
    if arguments.json:
        print_json({"ok": ok, "run": path.name, "repairs": [vars(repair) for repair in repairs]})
    else:
        _print(path.name, files, repairs)
    return 0 if ok else 1


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _print(run: str, files: int, repairs: list[Repair]) -> None:
    lost = sum(repair.source is None for repair in repairs)
    if not repairs:
        verdict = styled("nothing to repair", "good")
    elif lost:
        verdict = styled(f"NOT REPAIRED: {count(lost, 'file')} of {len(repairs)}", "bad")
    else:
        verdict = styled(f"repaired {count(len(repairs), 'file')}", "good")
    say(f"{printable(run)}: {verdict}, of {files}")
    for repair in repairs:
        source = f"taken from {repair.source}" if repair.source else styled("no good copy anywhere", "bad")
        say(f"  {printable(repair.path)}: {printable(repair.wrong)}; {source}")
