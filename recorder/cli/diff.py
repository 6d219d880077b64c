"""`recorder diff A B`: what sets two runs apart, and the first step at which they part."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from recorder.cli.console import print_json, printable, say, styled
from recorder.cli.quantities import count
from recorder.cli.reference import referenced_bundle

if TYPE_CHECKING:
    from recorder.replay.diff import Change, Difference

SUMMARY = "compare two runs"
DESCRIPTION = (
    "Compares two runs section by section, and their steps bit for bit: loss, gradient norm, learning rate,\n"
    "order of the data, digests of gradients and fingerprints of the state, where both recorded them."
)
EPILOG = (
    "example: recorder diff demo-1 latest\n"
    "exit codes: 0 nothing that matters differs (names, times and places do not), 1 something does, 2 no such run"
)

_MOST_CHANGES = 12
_LONGEST_VALUE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("a", metavar="A", help="id, beginning of an id, path, or latest")
    parser.add_argument("b", metavar="B", help="the run to compare it with")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print, and return 0 when nothing that matters differs."""
    from recorder.bundle.reader import Bundle
    from recorder.replay.diff import diff_bundles

    a, b = (Bundle(referenced_bundle(reference, arguments.runs)) for reference in (arguments.a, arguments.b))
    difference = diff_bundles(a, b)
    if arguments.json:
        print_json(difference.record())
    else:
        _print(difference)
    return 0 if difference.identical else 1


def _print(difference: Difference) -> None:
    say(styled(f"{printable(difference.a)} | {printable(difference.b)}", "bold"))
    for name, changes in difference.sections.items():
        if not changes:
            say(f"{name:<9} {styled('same', 'good')}")
            continue
        say(f"{name:<9} {styled(count(len(changes), 'difference'), 'warn')}")
        _print_changes(changes)
    compared = f"{count(difference.steps_compared, 'step')} compared"
    if difference.first_divergent_step is None:
        verdict = styled("same bits", "good") if difference.steps_compared else styled("nothing in common", "warn")
        say(f"{'steps':<9} {verdict}, {compared}")
    else:
        say(f"{'steps':<9} {styled(f'they part at step {difference.first_divergent_step}', 'bad')}, {compared}")
        _print_changes(difference.divergence)


def _print_changes(changes: list[Change]) -> None:
    for change in changes[:_MOST_CHANGES]:
        say(f"          {printable(change.key)}: {_shown(change.a)} | {_shown(change.b)}")
    if len(changes) > _MOST_CHANGES:
        say(f"          and {len(changes) - _MOST_CHANGES} more; --json has them all")


def _shown(value: object) -> str:
    text = "nothing" if value is None else printable(str(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
