"""Training data in a release: files below data/ whose digests the runs recorded, as they are, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import blake3_file, recording_errors
from recorder.bundle.reader import Bundle
from recorder.errors import UsageError


def data_files(folder: Path) -> list[str]:
    """Every file below `folder`, sorted. Raises UsageError when there is none, for a link, and for no folder."""
    if not folder.is_dir():
        raise UsageError(f"--data {folder} is no folder")
    found = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise UsageError(f"--data: {path} is a link or no file; a release holds files alone")
    if not found:
        raise UsageError(f"--data {folder} holds no file")
    return [path.relative_to(folder).as_posix() for path in found]


def check_data(folder: Path, bundles: Iterable[Bundle]) -> int:
    """How many files of data the runs recorded, all of `folder` being among them.

    Each is compared by size and BLAKE3 with the input files, shards and document tables in data/dataset.json; names are
    not. Raises UsageError for a file that no run recorded, BundleError for a damaged record.
    """
    recorded = {record for bundle in bundles for record in _recorded(bundle.document(layout.DATASET) or {})}
    for name in data_files(folder):
        path = folder / name
        if (path.stat().st_size, blake3_file(path)) not in recorded:
            raise UsageError(
                f"--data: {path} is none of the files that {layout.DATASET} of the runs names, by size and digest: "
                "take it away, or name the folder of what was trained on"
            )
    return len(recorded)


def stage_data(folder: Path, target: Path) -> int:
    """Put the files of `folder` below `target`, as hard links where that works; how many."""
    names = data_files(folder)
    with recording_errors(target):
        shutil.rmtree(target, ignore_errors=True)
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(folder / name, target / name)
            except OSError:
                shutil.copy2(folder / name, target / name)
    return len(names)


def _recorded(dataset: dict[str, Any]) -> Iterator[tuple[int, str]]:
    records = list(dataset.get("inputs") or ())
    for split in (dataset.get("splits") or {}).values():
        records += [*(split.get("shards") or ()), *([split["document_table"]] if split.get("document_table") else ())]
    for record in records:
        if isinstance(record, dict) and record.get("blake3"):
            yield int(record["bytes"]), str(record["blake3"])
