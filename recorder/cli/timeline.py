"""`recorder timeline RUN`: what happened, in order and in words."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from recorder.bundle.find import find_run
from recorder.canonical import parse_utc
from recorder.cli.console import print_json, printable, say, styled
from recorder.cli.words import BOOKKEEPING, words
from recorder.errors import BundleError

if TYPE_CHECKING:
    from recorder.bundle.reader import Bundle

SUMMARY = "tell what happened in a run, in order"
DESCRIPTION = (
    "Prints the events of a run in order, with the time since its beginning, and which steps each membership\n"
    "of workers committed. What only says where the record is kept is left out unless --all is given."
)
EPILOG = (
    "examples: recorder timeline latest\n"
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


def run(arguments: argparse.Namespace) -> int:
    """Print the timeline."""
    from recorder.bundle.reader import Bundle

    bundle = Bundle(find_run(arguments.run_reference, arguments.runs))
    entries = timeline(bundle, everything=arguments.all)
    if arguments.json:
        print_json([asdict(entry) for entry in entries])
        return 0
    say(styled(f"{printable(bundle.id)}, {bundle.state}", "bold"))
    for entry in entries:
        say(f"{styled(_clock(entry.seconds), 'dim')}  {entry.attempt}  {entry.text}")
    return 0


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
        raise BundleError(f"the record of {bundle.path.name} is damaged ({error!r}); verify it") from None


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


def _clock(seconds: float) -> str:
    tenths = int(seconds * 10)
    return f"{tenths // 36000:4d}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"
