"""Putting the files of a release together on this machine, and listing them."""

from __future__ import annotations

from pathlib import Path

from recorder.bundle.files import TEMPORARY, write_file
from recorder.bundle.verify import verify_bundle
from recorder.errors import RecordingError
from recorder.release.manifest import (
    CHECKPOINTS,
    RELEASE,
    RUNS,
    SIGNATURE,
    FileRecord,
    Release,
    build_release,
    record_file,
)
from recorder.release.work import Work


def record_stage(stage: Path) -> dict[str, FileRecord]:
    """The record of every file in the stage but release.json and the signature. Raises RecordingError for a link."""
    for folder in (stage, *stage.glob(f"{CHECKPOINTS}/*/")):
        # Left by a call that was killed while it wrote a file. What the bundles hold is theirs.
        for stale in folder.glob(f".*{TEMPORARY}"):
            stale.unlink()
    names = [path.relative_to(stage).as_posix() for path in sorted(stage.rglob("*")) if not path.is_dir()]
    for name in names:
        if (stage / name).is_symlink():
            raise RecordingError(f"{name} in {stage} is a link; a release holds none")
    return {name: record_file(stage / name) for name in names if name not in {RELEASE, SIGNATURE}}


def list_stage(work: Work) -> Release:
    """Take the digests of everything in the stage and write its release.json.

    Raises RecordingError when a staged bundle does not verify: something was changed since it was verified.
    """
    files = record_stage(work.stage)
    runs = [run | {"root": _staged_root(work, str(run["id"]))} for run in work.facts["runs"]]
    release = build_release(
        files,
        runs=runs,
        created=work.created,
        withheld=work.facts.get("withheld", []),
        allowed=work.facts.get("allowed", []),
        as_is=bool(work.facts["problems"]),
        signed=work.request.signed,
        superseded=work.facts.get("superseded"),
    )
    write_file(work.stage / RELEASE, release.data())
    return release


def _staged_root(work: Work, run: str) -> str | None:
    """The root of a staged bundle, which still is what was verified, unless it is published as it is."""
    report = verify_bundle(work.stage / RUNS / run, quick=True)
    if report.findings and not work.facts["problems"]:
        first = report.findings[0]
        raise RecordingError(f"{first.file} of {run} was changed after it was verified ({first.reason}): call again")
    return report.root
