"""A checkpoint on disk: safetensors files and `state.json`, the commit marker, which is written last.

`state.json` holds the resume state that is not tensors and the size and digests of the other files. A folder without
it is no checkpoint; while it is being written the folder has another name (`.step-….partial`).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import blake3_file, digest_file

FORMAT = 1


def commit_marker(step: int, state: dict[str, Any], files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The content of `state.json`."""
    return {"format": FORMAT, "step": step, "files": files, "state": state}


def read_commit_marker(folder: Path, needed: Collection[str] | None = None) -> dict[str, Any] | None:
    """What a `checkpoint.saved` event says of the checkpoint in `folder` (step, files); None if it is incomplete.

    All files, or those `needed` where they are named, are there with their recorded sizes; their content is not read.
    """
    path = folder / layout.CHECKPOINT_STATE
    try:
        marker = json.loads(path.read_bytes())
        step, files = int(marker["step"]), dict(marker["files"])
        if any((folder / name).stat().st_size != files[name]["size"] for name in (files if needed is None else needed)):
            return None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return {"step": step, "files": {**files, layout.CHECKPOINT_STATE: digest_file(path).record()}}


def damage(folder: Path, files: dict[str, dict[str, Any]]) -> str | None:
    """What is wrong with the checkpoint whose recorded `files` are given; None when every byte is as recorded."""
    for name, record in sorted(files.items()):
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        try:
            if path.stat().st_size != record["size"]:
                return f"{name} has {path.stat().st_size} bytes instead of {record['size']}"
            if blake3_file(path) != record["blake3"]:
                return f"{name} does not match its digest"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None
