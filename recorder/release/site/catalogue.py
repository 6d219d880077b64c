"""The runs of a catalogue: found below a folder, and each in a few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorder.bundle.find import bundles, created, is_bundle
from recorder.bundle.reader import Bundle
from recorder.canonical import decode_float, encode_non_finite
from recorder.errors import BundleError
from recorder.release.manifest import RELEASE, RUNS, parse_release
from recorder.release.report.curves import Curves
from recorder.release.report.envelope import Bucket, Envelope
from recorder.release.report.overview import standing
from recorder.replay.diff import CONFIG_IDENTITY, flat


@dataclass
class Entry:
    """A run in a catalogue. Where `problem` says that its record is damaged the rest may be missing.

    `page` is its report, beside the catalogue; `config` has dotted keys and values as text, without
    the names and places of the run.
    """

    run: str
    created: str
    outcome: str = "damaged"
    style: str = "bad"
    page: str | None = None
    sweep: str | None = None
    parent: str | None = None
    attempts: int = 0
    lost: int = 0
    step: int | None = None
    loss: float | None = None
    validation: float | None = None
    curve: Envelope | None = None
    config: dict[str, str] = field(default_factory=dict)
    problem: str | None = None

    def record(self, buckets: int) -> dict[str, Any]:
        """As JSON, the curve in at most so many buckets."""
        facts = {name: value for name, value in vars(self).items() if name != "curve"}
        curve = self.curve.at_most(buckets).record("loss") if self.curve is not None and self.curve.size else None
        record: dict[str, Any] = encode_non_finite({**facts, "curve": curve})
        return record


def runs_in(folder: Path) -> list[Path]:
    """Every bundle in `folder`: there, in releases there, or `folder` itself; oldest first."""
    return sorted(set(_bundles(folder)), key=lambda path: (created(path), path.name, str(path)))


def is_released(bundle: Path) -> bool:
    """Whether the bundle lies in a release that names it. Others are as recorded: hosts, people and places by name."""
    folder = bundle.resolve().parent
    try:
        release = parse_release((folder.parent / RELEASE).read_bytes(), str(folder.parent))
    except (OSError, BundleError):
        return False
    return folder.name == RUNS and bundle.name in release.runs


def _bundles(folder: Path) -> Iterator[Path]:
    if is_bundle(folder):
        yield folder
        return
    yield from bundles(folder)
    yield from bundles(folder / RUNS)
    for release in sorted(path for path in folder.iterdir() if path.is_dir() and not is_bundle(path)):
        yield from bundles(release / RUNS)


def entry(bundle: Bundle, curves: Curves, page: str) -> Entry:
    """A run in a few numbers. Raises LookupError, TypeError or ValueError for a malformed record."""
    how, info, evaluations = standing(bundle), bundle.info, bundle.course.evaluations
    parent, final = info.get("parent"), curves.final or {}
    return Entry(
        run=bundle.id,
        created=str(info.get("created", "")),
        outcome=how.word,
        style=how.style,
        page=page,
        sweep=str(info["sweep"]) if info.get("sweep") else None,
        parent=f"{parent['run']} at step {parent['step']}" if isinstance(parent, dict) else None,
        attempts=len(bundle.attempts),
        lost=len(bundle.course.losses),
        step=final.get("step"),
        loss=final.get("loss"),
        validation=decode_float(evaluations[-1]["loss"]) if evaluations else None,
        curve=kept_curve(curves),
        config={key: str(value) for key, value in flat(bundle.config) if key not in CONFIG_IDENTITY},
    )


def kept_curve(curves: Curves) -> Envelope:
    """The loss of the steps that count, as one line whatever memberships computed them."""
    of_groups = curves.columns.get("loss") or Envelope(1)
    joined: dict[int, Bucket] = {}
    for group, buckets in of_groups.groups.items():
        if curves.lines[group].kept:
            for number, bucket in buckets.items():
                joined.setdefault(number, Bucket()).join(bucket)
    return Envelope(of_groups.capacity, of_groups.width, {"loss": joined}, of_groups.first, of_groups.last)
