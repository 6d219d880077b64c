"""`recorder timeline RUN`: what happened, in order and in words."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.canonical import parse_utc
from recorder.cli.console import print_json, printable, say, styled
from recorder.cli.quantities import clock
from recorder.cli.reference import referenced_bundle
from recorder.cli.words import BOOKKEEPING, words
from recorder.errors import BundleError, UsageError

if TYPE_CHECKING:
    from recorder.bundle.costs import Costs
    from recorder.bundle.lanes import Lanes
    from recorder.bundle.reader import Bundle

SUMMARY = "tell what happened in a run, in order"
DESCRIPTION = (
    "Draws who trained when, a lane for each node and rank, with memberships, losses and their cost, checkpoints,\n"
    "snapshots in memory and restores. Then prints the events of the run in order, with the time since its beginning,\n"
    "and which steps each membership of workers committed. What only says where the record is kept is left out unless\n"
    "--all is given. --json prints the events, with --lanes the lanes."
)
EPILOG = (
    "examples: recorder timeline latest\n"
    "          recorder timeline demo-1 --svg demo-1.svg\n"
    "          recorder timeline demo-1 --json | jq '.[] | select(.type == \"worker.lost\")'\n"
    "exit codes: 0, 1 the record is damaged, 2 no such run"
)


@dataclass(frozen=True)
class Entry:
    """One line: `seconds` since the first event, `text` in words; `type` is `steps` for a stretch of steps."""

    seconds: float
    time: str
    attempt: int
    type: str
    text: str
    fields: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run_reference", metavar="RUN", help="id, beginning of an id, path, or latest")
    parser.add_argument("--all", action="store_true", help="also the events about the record's own files")
    parser.add_argument("--lanes", action="store_true", help="only who trained when, not the events")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw who trained when into FILE, and print nothing")


def run(arguments: argparse.Namespace) -> int:
    """Print the timeline, or draw it."""
    from recorder.bundle.reader import Bundle

    bundle = Bundle(referenced_bundle(arguments.run_reference, arguments.runs))
    if arguments.svg is not None:
        _draw(bundle, arguments.svg)
    elif arguments.json and arguments.lanes:
        seen, costs = _lanes(bundle)
        print_json({"run": bundle.id, **seen.record(), "costs": asdict(costs)})
    elif arguments.json:
        print_json([asdict(entry) for entry in timeline(bundle, everything=arguments.all)])
    else:
        entries = [] if arguments.lanes else timeline(bundle, everything=arguments.all)
        _print(bundle, entries)
    return 0


def _print(bundle: Bundle, entries: list[Entry]) -> None:
    from recorder.cli.lanes_text import lanes_text

    shown = lanes_text(*_lanes(bundle), shutil.get_terminal_size((80, 24)).columns)
    say(styled(f"{printable(bundle.id)}, {bundle.state}", "bold"))
    for line in shown:
        say(line)
    if entries:
        say()
    for entry in entries:
        say(f"{styled(clock(entry.seconds), 'dim')}  {entry.attempt}  {entry.text}")


def _draw(bundle: Bundle, file: Path) -> None:
    from recorder.cli.lanes_svg import lanes_svg

    drawing = lanes_svg(bundle.id, *_lanes(bundle))
    try:
        file.write_text(drawing, "utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror}); name a file with --svg FILE") from None


def _lanes(bundle: Bundle) -> tuple[Lanes, Costs]:
    """Who trained when, and what losses cost. Raises BundleError when the bundle is damaged."""
    from recorder.bundle.costs import costs
    from recorder.bundle.lanes import lanes

    try:
        return lanes(bundle.events(), bundle.rows()), costs(bundle.course)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(bundle, error) from None


def timeline(bundle: Bundle, everything: bool = False) -> list[Entry]:
    """The events of `bundle` and its stretches of steps, by attempt and time. Raises BundleError when it is damaged."""
    try:
        happened = [
            (event["attempt"], event["time"], event["type"], words(event["type"], event["fields"]), event["fields"])
            for event in bundle.events()
            if everything or event["type"] not in BOOKKEEPING
        ]
        happened += _stretches(bundle)
        happened.sort(key=lambda entry: entry[:2])
        start = min((parse_utc(time) for _, time, *_ in happened), default=0.0)
        return [
            Entry(round(parse_utc(time) - start, 6), time, attempt, kind, text, fields)
            for attempt, time, kind, text, fields in happened
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(bundle, error) from None


def _damaged(bundle: Bundle, error: Exception) -> BundleError:
    return BundleError(f"the record of {bundle.path.name} is damaged ({error!r}); verify it")


def _stretches(bundle: Bundle) -> list[tuple[int, str, str, str, dict[str, Any]]]:
    """For each membership of each attempt, when it committed its first step, and which steps it committed."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for row in bundle.rows():
        key = row["attempt"], row["membership"]
        seen = found.setdefault(key, {"first": row["step"], "last": row["step"], "begin": row["time"], "steps": 0})
        seen["first"], seen["last"] = min(seen["first"], row["step"]), max(seen["last"], row["step"])
        seen["begin"] = min(seen["begin"], row["time"])
        seen["steps"] += not row.get("late")
    return [
        (
            attempt,
            seen["begin"],
            "steps",
            f"steps {seen['first']} to {seen['last']} by membership {membership}",
            {"membership": membership, "first": seen["first"], "last": seen["last"], "steps": seen["steps"]},
        )
        for (attempt, membership), seen in found.items()
    ]
