"""`recorder doctor`: can this machine train and record, and if not, what mends it?"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from recorder.cli.console import print_json, printable, say, styled

SUMMARY = "check that this machine can train and record"
DESCRIPTION = "Checks what training and recording need of this machine, and says how to mend what is wrong."
EPILOG = (
    "examples: recorder doctor\n"
    "          recorder doctor --workers 4\n"
    "exit codes: 0 this machine can train (warnings included), 3 it cannot"
)

_CANNOT = 3
_STYLES = {"ok": "good", "warn": "warn", "fail": "bad"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="workers you mean to run here (default: 2)")


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and return 3 when this machine cannot train."""
    from recorder.cli.checks import all_checks

    checks = all_checks(arguments.runs, arguments.workers)
    if arguments.json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            say(f"{styled(f'{check.status:<4}', _STYLES[check.status])}  {check.name:<9} {printable(check.found)}")
            if check.mend:
                say(f"{'':<16}mend: {printable(check.mend)}")
    return _CANNOT if any(check.status == "fail" for check in checks) else 0
