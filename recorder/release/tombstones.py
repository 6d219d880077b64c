"""Tombstones: what stands in the place of a file that is not, or no longer, published."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.addenda import TOMBSTONES, append_addendum
from recorder.bundle.alterations import is_indispensable, read_alterations
from recorder.bundle.files import digest_file
from recorder.bundle.manifest import bundle_files
from recorder.canonical import utc_text
from recorder.errors import UsageError

Clock = Callable[[], float]


def tombstone(bundle: Path, name: str, reason: str, date: str) -> dict[str, Any]:
    """The tombstone of the file at the bundle's path `name`, with the digests that were recorded of it."""
    edit = read_alterations(bundle).edits.get(name)
    digests = edit.original if edit is not None else digest_file(bundle / name).record()
    return {"path": name, **digests, "reason": reason, "date": date}


def chosen_files(bundle: Path, paths: Iterable[str]) -> list[str]:
    """The files that `paths`, files or folders of the bundle, stand for. Raises UsageError for what cannot go."""
    present, chosen = bundle_files(bundle), set()
    for path in paths:
        below = [name for name in present if name == path or name.startswith(f"{path.rstrip('/')}/")]
        if not below and path != layout.MANIFEST:
            raise UsageError(f"{path} cannot be withheld: {bundle.name} has no such file or folder")
        if kept := next((name for name in below or [path] if is_indispensable(name)), None):
            raise UsageError(
                f"{kept} cannot be withheld: run.json, the manifest, ledger, metrics and addenda are what a copy is "
                "verified by"
            )
        chosen.update(below)
    return sorted(chosen)


def withhold(bundle: Path, paths: Iterable[str], reason: str, clock: Clock = time.time) -> list[str]:
    """Take files or whole folders out of the published copy `bundle`, and leave a tombstone of each; which ones.

    Never call it on the original. The addendum is written before anything is removed, so that a call that was cut off
    leaves nothing missing without a word, and the next one finishes it. Raises UsageError when one of `paths` is not
    there, or is what the rest is verified by.
    """
    known = read_alterations(bundle).tombstones
    unfinished = [name for name in known if (bundle / name).exists()]
    wanted = [path for path in paths if path not in known]
    names = [name for name in chosen_files(bundle, wanted) if name not in known]
    if names:
        date = utc_text(clock())[:10]
        stones = [tombstone(bundle, name, reason, date) for name in names]
        append_addendum(bundle, TOMBSTONES, {"tombstones": stones}, clock=clock)
    for name in (*unfinished, *names):
        (bundle / name).unlink(missing_ok=True)
        _remove_empty(bundle, (bundle / name).parent)
    return names


def withhold_checkpoint(bundle: Path, step: int, reason: str, clock: Clock = time.time) -> list[str]:
    """As `withhold`, for the checkpoint of `step`."""
    return withhold(bundle, [layout.checkpoint_folder(step)], reason, clock)


def _remove_empty(bundle: Path, folder: Path) -> None:
    while folder != bundle and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
