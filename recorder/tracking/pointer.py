"""The `.dvc` file beside a bundle: a few lines, kept in git, that name everything in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recorder.bundle.files import write_file
from recorder.errors import BundleError
from recorder.tracking.tree import DIRECTORY_SUFFIX

SUFFIX = ".dvc"


@dataclass(frozen=True)
class Pointer:
    """What a `.dvc` file says of a folder: its object's name, and the bytes and number of its files."""

    object: str
    size: int
    files: int


def pointer_path(bundle: Path) -> Path:
    """The `.dvc` file of the bundle in the folder `bundle`."""
    return bundle.with_name(bundle.name + SUFFIX)


def read_pointer(path: Path) -> Pointer | None:
    """What the `.dvc` file says; None when there is none. Raises BundleError when it does not name a folder."""
    try:
        return parse_pointer(path.read_bytes(), path.name)
    except FileNotFoundError:
        return None


def parse_pointer(data: bytes, name: str) -> Pointer:
    """What the `.dvc` file `name` with content `data` says. Raises BundleError when it does not name a folder."""
    try:
        (out,) = yaml.safe_load(data)["outs"]
        pointer = Pointer(str(out["md5"]), int(out.get("size", 0)), int(out.get("nfiles", 0)))
        if not pointer.object.endswith(DIRECTORY_SUFFIX):
            raise ValueError("it names no folder")
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(f"{name} is not the .dvc file of a bundle: {reason}") from None
    return pointer


def write_pointer(path: Path, pointer: Pointer, folder: str) -> None:
    """Write the `.dvc` file of `folder` atomically; what users have added to it (`desc`, `meta`, …) stays.

    Raises RecordingError when it cannot be written.
    """
    document = _existing(path)
    outs = document.get("outs")
    out = outs[0] if isinstance(outs, list) and outs and isinstance(outs[0], dict) else {}
    named = {"md5": pointer.object, "size": pointer.size, "nfiles": pointer.files, "hash": "md5", "path": folder}
    document["outs"] = [out | named]
    write_file(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())


def _existing(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError):
        return {}
    return document if isinstance(document, dict) else {}
