"""`recorder withdraw DEST --checkpoint STEP --reason TEXT`: take a checkpoint back from a published release."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from recorder.cli.console import print_json, printable, say, styled
from recorder.cli.quantities import count, size
from recorder.errors import UsageError

if TYPE_CHECKING:
    from recorder.release.destinations.protocol import Changeable
    from recorder.release.withdraw import Withdrawn

SUMMARY = "take a checkpoint back from a published release"
DESCRIPTION = (
    "Verifies the release at DEST, a folder or s3://BUCKET/PREFIX, and puts one without that checkpoint in its place:\n"
    "tombstones stay (path, size, digest, reason, date), the exported model is that of the newest checkpoint that is\n"
    "left, descriptions, list and signature are made anew, and release.json says what was superseded and why. Sign as\n"
    "it was signed. release.json goes first and comes last; a call that was killed is gone on with by the next.\n"
    "Who has fetched the checkpoint has it."
)
EPILOG = (
    "examples: recorder withdraw /mnt/releases/demo --checkpoint 100 --reason 'it was leaked' --key key.pem\n"
    "          recorder withdraw s3://lab/demo --checkpoint 100 --reason 'too large' --key key.pem --dry-run\n"
    "exit codes: 0 withdrawn, 1 what is there does not verify, 2 wrong use, 3 something is not installed here"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("place", metavar="DEST", help="where the release is")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", required=True, help="the step of the checkpoint")
    parser.add_argument("--reason", metavar="TEXT", required=True, help="why; it is published")
    parser.add_argument("--run", dest="of_run", metavar="ID", help="the run, where the release has several")
    parser.add_argument(
        "--statement", type=Path, metavar="FILE", help="YAML of what you state, in place of what the release keeps"
    )
    parser.add_argument("--dry-run", action="store_true", help="verify, and list what would be deleted; change nothing")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--key", type=Path, metavar="KEY", help="the private key (PEM) with which it was signed")
    how.add_argument("--sigstore", action="store_true", help="sign with Sigstore, over the network, as it was")


def run(arguments: argparse.Namespace) -> int:
    """Withdraw, print, and return 0 when the release that is there then is as it should be."""
    from recorder.release.withdraw import withdraw
    from recorder.release.withdrawal import Withdrawal

    if not (reason := " ".join(arguments.reason.split())):
        raise UsageError("--reason says nothing: it is published, and readers ask for it")
    place = _place(arguments.place)
    request = Withdrawal(
        runs=arguments.runs,
        bundles=(),
        key=arguments.key,
        sigstore=arguments.sigstore,
        statement=arguments.statement,
        url=place.url,
        step=arguments.checkpoint,
        reason=reason,
        run=arguments.of_run,
    )
    shown = not arguments.json
    done = withdraw(request, place, dry_run=arguments.dry_run, told=_tell if shown else lambda _: None)
    if arguments.json:
        print_json(_record(done, arguments.place))
    else:
        _print(done, arguments.place)
    return 0 if done.report is None or done.report.ok else 1


def _place(text: str) -> Changeable:
    """The place that `text` names. Raises UsageError for one from which nothing can be withdrawn by this command."""
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in {"http", "https"}:
        raise UsageError(f"{text} can only be read: name the folder or the bucket behind it")
    if scheme == "hf":
        raise UsageError(
            f"{text}: nothing can be withdrawn from the Hub by this command yet; its history would keep the bytes. "
            "Fetch the release, withdraw from that folder, delete the repository, and upload the folder to a new one"
        )
    if scheme == "dvc":
        raise UsageError(
            f"{text}: nothing can be withdrawn from a DVC remote by this command yet: release the runs under another "
            "name with --withhold, remove this one's .dvc file, and call `dvc gc -c`"
        )
    if scheme == "s3":
        from recorder.release.destinations.s3 import S3Prefix

        return S3Prefix(text)
    if scheme or not text:
        raise UsageError(f"{text!r} is no place of a release: name a folder or s3://BUCKET/PREFIX")
    from recorder.release.destinations.folder import Folder

    return Folder(Path(text))


def _tell(said: str) -> None:
    say(printable(said))


def _print(done: Withdrawn, place: str) -> None:
    if done.before is not None:
        say(printable(f"{place}: this checkpoint was withdrawn before, {done.before}"))
    elif done.report is None:
        for path in done.removed:
            say(f"  {size(done.release.files[path].size):>9}  {printable(path)}")
        would = f"would be deleted or replaced at {printable(place)}"
        say(f"{would}: {count(len(done.removed), 'file')}; nothing was changed")
        return
    else:
        for path in done.removed:
            say(f"  deleted  {printable(path)}")
    report = done.report
    assert report is not None
    for finding in report.findings:
        say(f"  {styled(f'{finding.kind:<10}', 'bad')} {printable(finding.file)}: {printable(finding.reason)}")
    if done.stays is not None:
        say(f"  note: {printable(done.stays)}")
    if report.ok and done.before is None:
        say(f"{styled('withdrawn', 'good')}: {printable(place)}, root {done.release.root}")


def _record(done: Withdrawn, place: str) -> dict[str, object]:
    report = done.report
    return {
        "ok": report is None or report.ok,
        "to": place,
        "root": done.release.root,
        "previous_root": done.previous_root,
        "withdrawn": report is not None,
        "before": done.before,
        "removed": list(done.removed),
        "put": list(done.put),
        "note": done.stays,
        "findings": [vars(finding) for finding in report.findings] if report is not None else [],
    }
