"""`recorder metrics RUN`: a run in the files that DVC shows as metrics and plots."""

from __future__ import annotations

import argparse
from pathlib import Path

from recorder.cli.console import print_json, printable, say
from recorder.cli.quantities import count
from recorder.cli.reference import referenced_bundle

SUMMARY = "write a run's results for dvc metrics and dvc plots"
DESCRIPTION = (
    "Writes metrics.json (final and validation loss, tokens, time, losses of workers), steps.csv and\n"
    "evaluations.csv into a folder. A long run's steps are thinned out: of each stretch its first step and those with\n"
    "the lowest and the highest loss stay."
)
EPILOG = (
    "examples: recorder metrics latest --out pipeline\n"
    "          recorder metrics pipeline/train.json --out pipeline   what the report stage of dvc.yaml does\n"
    "exit codes: 0, 1 the record is damaged, 2 no such run"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run_reference", metavar="RUN", help="id, beginning of an id, path, or latest")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write into")


def run(arguments: argparse.Namespace) -> int:
    """Write the files."""
    from recorder.bundle.files import write_file
    from recorder.bundle.reader import Bundle
    from recorder.tracking.metrics_files import metrics_files

    bundle = Bundle(referenced_bundle(arguments.run_reference, arguments.runs))
    files = metrics_files(bundle)
    for name, data in files.items():
        write_file(arguments.out / name, data)
    written = [(arguments.out / name).as_posix() for name in files]
    if arguments.json:
        print_json({"run": bundle.id, "files": written})
    else:
        say(f"{printable(bundle.id)}: wrote {count(len(written), 'file')}: {printable(', '.join(written))}")
    return 0
