"""`recorder get SOURCE`: fetch what others have released, and check it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recorder.cli.console import print_json, printable, say, styled
from recorder.cli.quantities import count, size

SUMMARY = "fetch a release, and check it"
DESCRIPTION = (
    "Fetches a release from a folder, s3://BUCKET/PREFIX, hf://ORGANISATION/NAME or https://…, checks every byte\n"
    "and the signature, and leaves bundles that all commands accept: recorder show RUN --runs DIR/runs. A transfer\n"
    "that broke is gone on with by the next call; asking for more later fetches only that."
)
EPILOG = (
    "examples: recorder get hf://lab/demo\n"
    "          recorder get https://example.org/demo --no-checkpoints --out demo\n"
    "          recorder get s3://lab/demo --only ledger,metrics --anchor key.pub\n"
    "exit codes: 0 fetched and consistent, 1 it is not what was released, 2 wrong use, 3 something is not installed"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("source", metavar="SOURCE", help="where the release is")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--checkpoint", type=int, metavar="STEP", help="of the checkpoints, only that of this step")
    what.add_argument("--no-checkpoints", action="store_true", help="no checkpoints and no model")
    what.add_argument("--only", metavar="PARTS", help="only these: ledger,metrics,system,logs,checkpoints,model,…")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder to fetch into (default: the source's name)")
    parser.add_argument(
        "--anchor", metavar="KEY", help="the signer's public key (PEM), or the root that you were given"
    )


def run(arguments: argparse.Namespace) -> int:
    """Fetch, verify, print, and return 0 when it is what was released."""
    from recorder.release.destinations.folder import Folder
    from recorder.release.get import get_release
    from recorder.release.places import open_source
    from recorder.release.selection import Selection
    from recorder.release.verify_release import verify_release

    source = open_source(arguments.source, arguments.runs)
    out = arguments.out or Path(arguments.source.rstrip("/").rpartition("/")[2] or "release")
    selection = Selection(
        checkpoint=arguments.checkpoint,
        checkpoints=not arguments.no_checkpoints,
        only=tuple(part for part in (arguments.only or "").split(",") if part),
    )
    progress = _show_progress if sys.stderr.isatty() else None
    fetched = get_release(source, out, selection, progress)
    report = verify_release(Folder(out), arguments.anchor)
    if arguments.json:
        done = {"out": str(out), "files": fetched.files, "bytes": fetched.bytes, "not_fetched": list(fetched.absent)}
        done["superseded"] = fetched.superseded
        print_json(report.record() | done)
        return 0 if report.ok else 1
    left = f"; {count(len(fetched.absent), 'file')} left behind" if fetched.absent else ""
    say(f"{printable(str(out))}: {count(fetched.files, 'file')}, {size(fetched.bytes)} fetched{left}")
    if fetched.superseded is not None:
        say(printable(f"  what was fetched before was {fetched.superseded}"))
    verdict = styled("consistent", "good") if report.ok else styled("NOT CONSISTENT", "bad")
    say(f"  {verdict}{', anchored' if report.anchored else ', unanchored'}, root {report.root}")
    for finding in report.findings:
        say(f"  {styled(f'{finding.kind:<10}', 'bad')} {printable(finding.file)}: {printable(finding.reason)}")
    for note in report.notes:
        say(f"  note: {printable(note)}")
    for run_id in fetched.release.runs:
        say(f"  recorder show {printable(run_id)} --runs {printable(str(out / 'runs'))}")
    return 0 if report.ok else 1


def _show_progress(path: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r\x1b[K{size(done)} of {size(total)}  {printable(path)}\r")
    sys.stderr.flush()
