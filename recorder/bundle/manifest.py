"""The manifest: every file of a bundle with its digests, written last. A bundle without it is open.

Its `root` is the BLAKE3-256 of the canonical JSON of everything else in it, so one short value stands for the whole
bundle: sign it, commit it or print it, and any later change to any file is detected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.alterations import read_alterations
from recorder.bundle.files import FileDigest, digest_file, make_read_only, write_file
from recorder.canonical import digest, digest_json, readable_json
from recorder.errors import BundleError

_SEGMENTED = (layout.LEDGER, layout.METRICS, layout.SYSTEM_METRICS)


def bundle_files(bundle: Path) -> list[str]:
    """Every file below `bundle` but the manifest, as sorted POSIX relative paths; links are files too."""
    found = [path for path in bundle.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(name for path in found if (name := path.relative_to(bundle).as_posix()) != layout.MANIFEST)


def build_manifest(
    bundle: Path, *, outcome: str, sealed: str, known: Mapping[str, FileDigest], previous_root: str | None
) -> dict[str, Any]:
    """The manifest of `bundle`. Digests in `known` were taken while the file was written; the others are read now."""
    files = {name: (known.get(name) or digest_file(bundle / name)).record() for name in bundle_files(bundle)}
    run = json.loads((bundle / layout.RUN).read_bytes())
    manifest: dict[str, Any] = {
        "format": layout.FORMAT,
        "run": run["id"],
        "outcome": outcome,
        "sealed": sealed,
        "files": files,
        "external": {},
        "segments": {folder: [name for name in files if name.startswith(f"{folder}/")] for folder in _SEGMENTED},
        "previous_root": previous_root,
    }
    return manifest | {"root": digest_json(manifest)}


def write_manifest(bundle: Path, manifest: dict[str, Any]) -> FileDigest:
    """Seal the bundle: from here on nothing in it changes. The digest of the manifest's own file."""
    digests = write_file(bundle / layout.MANIFEST, readable_json(manifest))
    make_read_only(bundle / layout.MANIFEST)
    return digests


def read_manifest(bundle: Path) -> dict[str, Any] | None:
    """The manifest, or None while the bundle is open. Raises BundleError when it is not what was written."""
    try:
        data = (bundle / layout.MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return parse_manifest(data, layout.MANIFEST)
    except BundleError:
        edit = read_alterations(bundle).edits.get(layout.MANIFEST)
        if edit is None:
            raise
        return parse_manifest(data, layout.MANIFEST, edit.released["blake3"])


def parse_manifest(data: bytes, name: str, edited: str | None = None) -> dict[str, Any]:
    """The manifest in the file `name` with content `data`. Raises BundleError when it is not what was written.

    `edited` is the digest it has since names in it were replaced; its root is then that of the original.
    """
    try:
        manifest = json.loads(data)
        if not isinstance(manifest, dict):
            raise TypeError("not a JSON object")
        canonical = readable_json(manifest)
    except (ValueError, TypeError, RecursionError) as error:
        raise BundleError(f"{name} is damaged: {error}") from None
    if (found := manifest.get("format")) not in range(1, layout.FORMAT + 1):
        raise BundleError(f"{name} has format {found!r}, this reader knows 1 to {layout.FORMAT}: install a newer one")
    if canonical != data:
        raise BundleError(f"{name} is not in canonical form: it was edited")
    if edited is not None and digest(data) != edited:
        raise BundleError(f"{name} was edited otherwise than the addenda say")
    if edited is None and manifest.get("root") != manifest_root(manifest):
        raise BundleError(f"{name} does not match its own root: it was edited")
    return manifest


def manifest_root(manifest: dict[str, Any]) -> str:
    """The root that belongs to the content of `manifest`."""
    return digest_json({key: value for key, value in manifest.items() if key != "root"})


def archive_manifest(bundle: Path) -> bool:
    """Open a sealed bundle for a further attempt: its seal moves to the addenda. Whether it was sealed."""
    if read_manifest(bundle) is None:
        return False
    target = bundle / layout.archived_seal(1 + len(archived_seals(bundle)))
    target.parent.mkdir(exist_ok=True)
    (bundle / layout.MANIFEST).rename(target)
    return True


def archived_seals(bundle: Path) -> list[Path]:
    """The seals of earlier attempts, oldest first."""
    return sorted((bundle / layout.ADDENDA).glob("seal-*.json"))


def previous_root(bundle: Path) -> str | None:
    """The root of the newest archived seal; None when the bundle was never sealed before. Raises BundleError."""
    seals = archived_seals(bundle)
    if not seals:
        return None
    root: str = parse_manifest(seals[-1].read_bytes(), seals[-1].name)["root"]
    return root
