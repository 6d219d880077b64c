"""`recorder release RUN… --to DEST`: publish runs so that outsiders can read, check and run them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bundle.find import find_run
from recorder.cli.console import print_json, printable, say, styled
from recorder.cli.quantities import count, size
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.release.publish import Published

SUMMARY = "publish runs so that outsiders can check them"
DESCRIPTION = (
    "Verifies bundles, refuses to go on with secrets in them, puts pseudonyms for names of hosts, people and homes,\n"
    "exports the model for transformers, describes and signs it all, sends it to DEST and reads it back from there.\n"
    "DEST is a folder, s3://BUCKET/PREFIX (AWS_ENDPOINT_URL names another server), hf://ORGANISATION/NAME\n"
    "(HF_ENDPOINT), or dvc://REMOTE. release.json goes last: until then nothing there looks complete. A call that was\n"
    "killed is gone on with by the next; what is at DEST already and is something else is never overwritten."
)
EPILOG = (
    "examples: recorder release latest --to /mnt/releases/demo --key key.pem\n"
    "          recorder release demo-1 demo-2 --to s3://lab/demo --dry-run   what would go, how much, what was found\n"
    "          recorder release latest --to hf://lab/demo --withhold 'checkpoints/*/optimizer.safetensors=too big'\n"
    "a key: openssl ecparam -name prime256v1 -genkey -noout -out key.pem; openssl ec -in key.pem -pubout -out key.pub\n"
    "exit codes: 0 published, 1 a bundle or the destination is not fit, 2 wrong use, 3 something is not installed here"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run_references", metavar="RUN", nargs="+", help="id, beginning of an id, path, or latest")
    parser.add_argument("--to", metavar="DEST", required=True, help="where the release goes")
    parser.add_argument("--dry-run", action="store_true", help="list what would go; sign and send nothing")
    parser.add_argument(
        "--allow", metavar="FINGERPRINT", action="append", default=[], help="publish this finding of the secrets gate"
    )
    parser.add_argument(
        "--withhold",
        metavar="PATH[=REASON]",
        action="append",
        default=[],
        help="leave files or folders of the bundles out (* matches), with a tombstone in their place",
    )
    parser.add_argument(
        "--statement", type=Path, metavar="FILE", help="YAML of what you state: title, authors, licences, use, limits"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="release these files that the runs were trained on, as they are"
    )
    parser.add_argument("--as-is", action="store_true", help="publish what is open or does not verify, marked so")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--key", type=Path, metavar="KEY", help="sign with this private key (PEM, elliptic curve)")
    how.add_argument("--sigstore", action="store_true", help="sign with Sigstore, over the network")


def run(arguments: argparse.Namespace) -> int:
    """Release, print each step, and return 0 when the published copy is as it should be."""
    from recorder.release.places import open_destination
    from recorder.release.publish import release_runs
    from recorder.release.steps import SecretsFound
    from recorder.release.work import Request

    bundles = tuple(find_run(reference, arguments.runs) for reference in arguments.run_references)
    if len({bundle.name for bundle in bundles}) < len(bundles):
        raise UsageError("a run is named twice: name each run of a release once")
    request = Request(
        runs=arguments.runs,
        bundles=bundles,
        allow=tuple(arguments.allow),
        withhold=tuple(arguments.withhold),
        as_is=arguments.as_is,
        key=arguments.key,
        sigstore=arguments.sigstore,
        statement=arguments.statement,
        data=arguments.data,
    )
    to = arguments.to
    if to.startswith("dvc://") and "/" not in to.removeprefix("dvc://").strip("/"):
        to = f"{to.rstrip('/')}/{request.name}"
    shown = not arguments.json
    try:
        published = release_runs(
            request,
            open_destination(to, arguments.runs),
            dry_run=arguments.dry_run,
            told=_tell if shown else lambda *_: None,
            progress=_show_progress if shown and sys.stderr.isatty() else None,
        )
    except SecretsFound as error:
        if shown:
            _print_secrets(error.findings)
            raise
        print_json({"ok": False, "to": to, "published": False, "secrets": error.findings, "reason": str(error)})
        return 1
    if arguments.json:
        print_json(_record(published, to))
    elif published.report is None:
        _print_plan(published, to)
    else:
        _print(published, to)
    if published.report is None:
        return 1 if published.secrets else 0
    return 0 if published.report.ok else 1


def _tell(number: int, total: int, name: str, said: str, before: bool) -> None:
    again = styled(" (done before)", "dim") if before else ""
    say(f"{number}/{total} {styled(f'{name:<8}', 'bold')} {printable(said)}{again}")
    sys.stdout.flush()


def _show_progress(path: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r\x1b[K{size(done)} of {size(total)}  {printable(path)}\r")
    sys.stderr.flush()


def _print_secrets(findings: Sequence[dict[str, Any]]) -> None:
    for found in findings:
        where = f"{found['run']}/{found['path']}:{found['line']}".removeprefix("/")
        said = f"{found['kind']}  {found['excerpt'].strip()}"
        say(f"  {styled(printable(where), 'bad')}  {printable(said)}  {found['fingerprint']}")


def _print_plan(published: Published, to: str) -> None:
    _print_secrets(published.secrets)
    files = published.release.files
    for path in published.waiting:
        say(f"  {size(files[path].size):>9}  {printable(path)}")
    total = sum(files[path].size for path in published.waiting)
    say(f"would go to {printable(to)}: {count(len(published.waiting), 'file')}, {size(total)}; nothing was sent")


def _print(published: Published, to: str) -> None:
    report = published.report
    assert report is not None
    for finding in report.findings:
        say(f"  {styled(f'{finding.kind:<10}', 'bad')} {printable(finding.file)}: {printable(finding.reason)}")
    for note in report.notes:
        say(f"  note: {printable(note)}")
    if report.ok:
        say(f"{styled('published', 'good')}: {printable(to)}, root {published.release.root}")


def _record(published: Published, to: str) -> dict[str, object]:
    files = published.release.files
    return {
        "ok": not published.secrets if published.report is None else published.report.ok,
        "to": to,
        "root": published.release.root,
        "published": published.report is not None,
        "sent": {path: files[path].size if path in files else None for path in published.waiting},
        "secrets": list(published.secrets),
        "names": list(published.names),
        "findings": [vars(finding) for finding in published.report.findings] if published.report else [],
    }
