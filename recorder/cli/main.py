"""`recorder`: parses the command line, runs one command, and maps what went wrong to an exit code, here and only here.

Nothing slow is imported before a command asks for it: `recorder verify RUN --digests` has to be quick to start.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from recorder import __version__
from recorder.cli import (
    diff,
    doctor,
    get,
    list,
    metrics,
    release,
    repair,
    report,
    scale,
    show,
    site,
    timeline,
    verify,
    withdraw,
)
from recorder.cli.console import printable
from recorder.errors import RecorderError, UsageError

_COMMANDS = {
    "list": list,
    "show": show,
    "timeline": timeline,
    "verify": verify,
    "repair": repair,
    "diff": diff,
    "metrics": metrics,
    "scale": scale,
    "report": report,
    "site": site,
    "release": release,
    "withdraw": withdraw,
    "get": get,
    "doctor": doctor,
}
_EXIT_CODES = "exit codes: 0 fine, 1 a finding, 2 wrong use, 3 this machine cannot do it"
_RUN_HELP = "RUN is an id, the beginning of one, a path to a bundle, or latest"

# What a shell reports for a program that SIGPIPE or SIGINT ended.
_BROKEN_PIPE, _INTERRUPTED = 141, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Errors raised on purpose are one line on stderr, others keep their traceback."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows its code instead of ending the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        parsed = _parse(sys.argv[1:] if arguments is None else arguments)
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except RecorderError as error:
        sys.stderr.write(f"recorder: {printable(str(error))}\n")
        return error.exit_code
    except BrokenPipeError:
        # Python would complain once more when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


class _Parser(argparse.ArgumentParser):
    """A mistake is one line through the same door as all others."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command and its arguments. Raises UsageError for a mistake, SystemExit after `--help` and `--version`."""
    wanted = arguments[0] if arguments else ""
    if not wanted.startswith("-") and wanted not in _COMMANDS:
        nearest = difflib.get_close_matches(wanted, _COMMANDS, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        problem = f"there is no command {wanted!r}" if wanted else "say which command"
        raise UsageError(f"{problem}; there are {', '.join(_COMMANDS)}{hint} (see recorder --help)")
    return _parser().parse_args(arguments)


def _parser() -> _Parser:
    # The help is laid out by its authors; argparse would join its lines.
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="recorder",
        description="Read, verify and compare the bundles that runs leave.",
        epilog=f"example: recorder show latest\n{_RUN_HELP}\n{_EXIT_CODES}",
        formatter_class=layout,
    )
    parser.add_argument("--version", action="version", version=f"recorder {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", parser_class=_Parser)
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=layout,
        )
        command.add_argument("--json", action="store_true", help="print JSON for a program")
        command.add_argument(
            "--runs", type=Path, default=Path("runs"), metavar="DIR", help="the folder of the bundles (default: runs)"
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
