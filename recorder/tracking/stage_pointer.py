"""The small file that is the only output of a training stage in DVC: it names the run, and the bundle has the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from recorder.bundle.manifest import archived_seals, parse_manifest, read_manifest
from recorder.bundle.reader import Bundle
from recorder.canonical import digest_json, readable_json
from recorder.errors import BundleError, RunNotFound
from recorder.tracking.workspace import lasting

_LARGEST = 1 << 16


@dataclass(frozen=True)
class StagePointer:
    """A finished run: its id, its bundle as the config has it (`run.dir` and id), config digest and manifest root."""

    run: str
    bundle: str
    config_digest: str
    root: str

    def serialised(self) -> bytes:
        """The content of the file."""
        return readable_json(asdict(self))

    def folder(self) -> Path:
        """The bundle's folder, seen from the current one. Raises RunNotFound, which says how to fetch it."""
        path = lasting(Path(self.bundle))
        if not path.is_dir():
            raise RunNotFound(f"the bundle {path} is not here; `dvc pull {self.bundle}.dvc` fetches it from a remote")
        return path


def pointer_to(bundle: Path, folder: str) -> StagePointer:
    """The pointer to the sealed bundle in the folder `bundle`; `folder` is `run.dir` as the config has it.

    Raises BundleError when it has no valid seal.
    """
    manifest = read_manifest(bundle)
    if manifest is None:
        raise BundleError(f"{bundle.name} is not sealed")
    place = (Path(folder) / bundle.name).as_posix()
    return StagePointer(bundle.name, place, digest_json(Bundle(bundle).config), manifest["root"])


def read_stage_pointer(path: Path) -> StagePointer | None:
    """What the file `path` names; None when it is no such file."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        return parse_stage_pointer(path.read_bytes())
    except (OSError, ValueError):
        return None


def parse_stage_pointer(data: bytes) -> StagePointer | None:
    """What a file of this content names; None when it is no such file."""
    try:
        document = json.loads(data)
        return StagePointer(**document) if all(isinstance(value, str) for value in document.values()) else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def pointer_faults(pointer: StagePointer, bundle: Path) -> list[str]:
    """What is wrong with a bundle that the pointer names. A run that went on since has the seal among its addenda."""
    try:
        manifest = read_manifest(bundle)
    except BundleError:
        # The verification of the bundle says so itself.
        return []
    roots = [manifest["root"]] if manifest is not None else []
    for path in archived_seals(bundle):
        try:
            roots.append(parse_manifest(path.read_bytes(), path.name)["root"])
        except (BundleError, OSError):
            continue
    if pointer.root in roots:
        return []
    return [f"the pointer names the root {pointer.root}, and this bundle has {', '.join(roots) or 'no seal'}"]
