"""`recorder scale RUN WORKERS`: more or fewer workers for a run that is training."""

from __future__ import annotations

import argparse

from recorder.cli.console import print_json, say
from recorder.cli.reference import referenced_bundle
from recorder.errors import UsageError
from recorder.lock import is_locked
from recorder.scale_request import ScaleRequest

SUMMARY = "train on with another number of workers"
DESCRIPTION = (
    "Asks a run that is training for another number of workers. New ones join at a step boundary with the state of\n"
    "the others; those that are too many leave at one. No step is lost, none is computed again, and the bits of the\n"
    "run stay what they would have been. The ledger says when it happened: run.scaled, membership.changed."
)
EPILOG = (
    "example: recorder scale latest 3\n"
    "exit codes: 0 asked, 2 no such run, one that is not training, or a number it cannot use"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run_reference", metavar="RUN", help="id, beginning of an id, path, or latest")
    parser.add_argument("workers", metavar="WORKERS", type=int, help="how many, at least cluster.min_workers")


def run(arguments: argparse.Namespace) -> int:
    """Leave the request for the driver."""
    from recorder.bundle.reader import Bundle

    path = referenced_bundle(arguments.run_reference, arguments.runs)
    if not is_locked(path.parent, path.name):
        raise UsageError(f"run {path.name} is not training; resume it with run.resume={path.name} cluster.workers=...")
    config = Bundle(path).config
    least, most = config["cluster"].get("min_workers", 1), config["train"]["micro_batches"]
    if not least <= arguments.workers <= most:
        raise UsageError(
            f"{arguments.workers} workers are not possible: from cluster.min_workers={least} to "
            f"train.micro_batches={most}"
        )
    ScaleRequest(path.parent, path.name).put(arguments.workers)
    if arguments.json:
        print_json({"run": path.name, "workers": arguments.workers})
    else:
        say(f"asked {path.name} for {arguments.workers} workers; recorder timeline {path.name} shows when it has them")
    return 0
