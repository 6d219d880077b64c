"""`recorder report RUN`: one run as a page that opens offline."""

from __future__ import annotations

import argparse
from pathlib import Path

from recorder.bundle.find import find_run
from recorder.cli.console import print_json, printable, say
from recorder.cli.quantities import size
from recorder.errors import UsageError

SUMMARY = "make a page of one run that opens offline"
DESCRIPTION = (
    "Writes one HTML file: the curves of a run across its attempts and memberships, who trained when, what was lost\n"
    "and what that cost, config, data, environment, samples, checkpoints. It loads nothing and needs no server. Long\n"
    "curves become means with a band of their extremes. A fork is compared with its parent if that lies beside it."
)
EPILOG = "example: recorder report latest --out report.html\nexit codes: 0, 1 the record is damaged, 2 wrong use"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run_reference", metavar="RUN", help="id, beginning of an id, path, or latest")
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE", help="where to write it (default: report.html)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from recorder.bundle.reader import Bundle
    from recorder.release.report.page import parent_config, report

    bundle = Bundle(find_run(arguments.run_reference, arguments.runs))
    page = report(bundle, parent_config(bundle)).encode()
    try:
        arguments.out.write_bytes(page)
    except OSError as error:
        raise UsageError(f"{arguments.out} cannot be written ({error.strerror}); name a file with --out FILE") from None
    if arguments.json:
        print_json({"run": bundle.id, "file": str(arguments.out), "bytes": len(page)})
    else:
        say(printable(f"{arguments.out}: {bundle.id}, {size(len(page))}"))
    return 0
