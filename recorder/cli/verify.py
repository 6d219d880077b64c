"""`recorder verify RUN`: is this bundle, to the last byte, what was recorded?"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import write_file
from recorder.bundle.findings import Finding, Report, anchored_by_root
from recorder.bundle.verify import verify_bundle
from recorder.canonical import readable_json
from recorder.cli.console import print_json, printable, say, styled
from recorder.cli.quantities import count, size
from recorder.cli.reference import referenced_bundle
from recorder.errors import UsageError
from recorder.tracking.stage_pointer import pointer_faults, read_stage_pointer

SUMMARY = "check that nothing in a bundle or a release was changed"
DESCRIPTION = (
    "Checks every byte of a bundle against its seal, every hash chain, every event against the files,\n"
    "the order of the steps, and what was used against what was recorded. Where a dvc.lock names the run, what DVC\n"
    "locked is compared with what was trained. RUN may also be a release: a folder, s3://…, hf://… or https://…; then\n"
    "its signature is checked as well, and the bundles in it."
)
EPILOG = (
    "examples: recorder verify latest\n"
    "          recorder verify runs/demo-1 --digests   only the files' digests, at the disk's speed\n"
    "          recorder verify pipeline/train.json --out pipeline/verify.json   the run of a DVC stage\n"
    "          recorder verify latest --remote store   what a DVC remote holds, which DVC never checks\n"
    "          recorder verify hf://lab/demo --anchor key.pub   a release, signed by the owner of this key\n"
    "exit codes: 0 consistent, 1 something is wrong, 2 no such run"
)

# What makes a folder a release. Its own module is not loaded for a bundle.
_RELEASE = "release.json"
# Below this nobody waits long enough to be shown how far it is.
_WORTH_SHOWING = 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("run_reference", metavar="RUN", help="id, beginning of an id, path, latest, or a release")
    parser.add_argument(
        "--anchor", metavar="KEY", help="the signer's public key (PEM), or the root that you were given"
    )
    where = parser.add_mutually_exclusive_group()
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the result as a small JSON file")
    where.add_argument("--digests", action="store_true", help="compare the files with the seal and nothing else")
    where.add_argument("--remote", metavar="NAME", help="hash again what this DVC remote holds of the bundle")
    where.add_argument("--cache", action="store_true", help="hash again what DVC's cache holds of the bundle")


def run(arguments: argparse.Namespace) -> int:
    """Verify, print, and return 0 when nothing is wrong."""
    report = _verify(arguments)
    if arguments.out is not None:
        write_file(arguments.out, readable_json(_summary(report)))
    if arguments.json:
        print_json(report.record())
    else:
        _print(report)
    return 0 if report.ok else 1


def _verify(arguments: argparse.Namespace) -> Report:
    reference, anchor = arguments.run_reference, arguments.anchor
    if "://" in reference or (Path(reference) / _RELEASE).is_file():
        if arguments.digests or arguments.remote is not None or arguments.cache:
            raise UsageError("--digests, --remote and --cache are for a bundle, not for a release")
        from recorder.release.places import open_source
        from recorder.release.verify_release import verify_release

        return verify_release(open_source(reference, arguments.runs), anchor)
    path = referenced_bundle(reference, arguments.runs)
    progress = _show_progress if sys.stderr.isatty() else None
    if arguments.remote is not None or arguments.cache:
        from recorder.tracking.store_check import verify_store

        report = verify_store(path, arguments.remote, progress)
    else:
        report = verify_bundle(path, quick=arguments.digests, progress=progress)
        report = _with_pipeline(report, path, arguments)
    return report if anchor is None else anchored_by_root(report, anchor)


def _with_pipeline(report: Report, path: Path, arguments: argparse.Namespace) -> Report:
    """Add what DVC's files beside the bundle say otherwise: the pointer of a stage, and `dvc.lock`."""
    findings = list(report.findings)
    pointer = read_stage_pointer(Path(arguments.run_reference))
    if pointer is not None:
        faults = pointer_faults(pointer, path)
        if layout.MANIFEST in report.edited:
            faults.append("it was edited, so that the root that the pointer names is only claimed")
        findings += [Finding(layout.MANIFEST, fault, "seal") for fault in faults]
    if not arguments.digests:
        from recorder.tracking.locked_params import locked_faults

        findings += [Finding(layout.RESOLVED_CONFIG, fault, "config") for fault in locked_faults(path, report.run)]
    return replace(report, findings=tuple(findings))


def _summary(report: Report) -> dict[str, Any]:
    """What a pipeline keeps of a verification: the same for the same bundle."""
    found = [f"{finding.file}: {finding.reason}" for finding in report.findings]
    return {"ok": report.ok, "findings": len(found), "run": report.run, "found": found}


def _print(report: Report) -> None:
    if report.ok:
        verdict = styled("consistent", "good") + (", anchored" if report.anchored else ", unanchored")
    else:
        verdict = styled(f"NOT CONSISTENT: {count(len(report.findings), 'finding')}", "bad")
    say(f"{printable(report.run)}: {verdict}")
    say(f"  {_extent(report)}")
    if report.root is not None:
        say(f"  root {report.root}")
    for finding in report.findings:
        say(f"  {styled(f'{finding.kind:<10}', 'bad')} {printable(finding.file)}: {printable(finding.reason)}")
    for note in report.notes:
        say(f"  note: {printable(note)}")
    if report.ok and report.root is not None and not report.anchored:
        compare = (
            "verify the release that it came in" if report.edited else "compare the root with one that you were given"
        )
        say(f"  Nothing outside the bundle vouches for it: {compare}.")


def _extent(report: Report) -> str:
    counts = report.counts
    parts = [report.state, f"{count(counts['files'], 'file')}, {size(counts['bytes'])}"]
    for key in ("attempts", "events", "steps", "checkpoints"):
        if key in counts:
            parts.append(count(counts[key], key.removesuffix("s")))
    return " · ".join(parts)


def _show_progress(done: int, total: int) -> None:
    if total >= _WORTH_SHOWING:
        sys.stderr.write(f"\r{size(done)} of {size(total)}" if done < total else "\r\x1b[K")
        sys.stderr.flush()
