"""The addenda: what came after a bundle's seal. A chain of JSON files that begins with the seal's root.

Each is `addenda/NNNN-<kind>.json`. Its `hash` covers its content and `previous`, the hash of the addendum before it;
that of the first is the root of the manifest, or for a bundle without one the BLAKE3 of run.json, as in every chain.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import FileDigest, make_read_only, write_file
from recorder.canonical import canonical_json, digest, readable_json, utc_text
from recorder.errors import BundleError
from recorder.ledger.chain import link

REDACTION, TOMBSTONES, LATE_SPOOL, CERTIFICATE = "redaction", "tombstones", "late-spool", "certificate"

_FORMAT = 1
_NAME = re.compile(r"(\d{4,})-[a-z][a-z-]*\.json")


@dataclass(frozen=True)
class Addendum:
    """One addendum as it was read; `name` is its path in the bundle."""

    name: str
    record: dict[str, Any]

    @property
    def fields(self) -> dict[str, Any]:
        """What it says."""
        fields: dict[str, Any] = self.record["fields"]
        return fields


def is_addendum(path: str) -> bool:
    """Whether the bundle's `path` is that of an addendum."""
    folder, _, name = path.rpartition("/")
    return folder == layout.ADDENDA and _NAME.fullmatch(name) is not None


def read_addenda(bundle: Path) -> list[Addendum]:
    """All addenda in order. Raises BundleError for one that is damaged; whether they are a chain is not checked."""
    found = []
    for path in sorted((bundle / layout.ADDENDA).glob("*.json"), key=lambda path: (len(path.name.split("-")[0]), path)):
        name = f"{layout.ADDENDA}/{path.name}"
        if is_addendum(name):
            found.append(Addendum(name, _read(path, name)))
    return found


def _read(path: Path, name: str) -> dict[str, Any]:
    from recorder.bundle.schema import violation

    try:
        data = path.read_bytes()
        record = json.loads(data)
        canonical = readable_json(record)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BundleError(f"{name} is damaged: {error}") from None
    if wrong := violation("addendum", record):
        raise BundleError(f"{name} is not as its schema says: {wrong}")
    if canonical != data:
        raise BundleError(f"{name} is not in canonical form: it was edited")
    checked: dict[str, Any] = record
    return checked


def chain_problem(addendum: Addendum, number: int, previous: str | None) -> str | None:
    """What is wrong with the addendum that should be the `number`-th; None when all is well.

    `previous` is the hash it should follow, None when that is not known.
    """
    record = addendum.record
    content = {key: value for key, value in record.items() if key not in {"previous", "hash"}}
    if record["number"] != number or not addendum.name.startswith(f"{layout.ADDENDA}/{number:04d}-{record['kind']}."):
        return f"it says it is addendum {record['number']}, {record['kind']}, and addendum {number} should be here"
    if previous is not None and record["previous"] != previous:
        return f"it follows {record['previous']}, and the hash before it is {previous}"
    if record["hash"] != link(record["previous"], canonical_json(content)):
        return "its hash does not match its content"
    return None


def append_addendum(
    bundle: Path,
    kind: str,
    fields: Mapping[str, Any],
    files: Mapping[str, FileDigest] | None = None,
    root: str | None = None,
    clock: Callable[[], float] = time.time,
) -> str:
    """Add an addendum and return its path; `files` are already below addenda/.

    `root` is what the chain begins with, when this is the first one and it is not what is in the bundle: the manifest's
    root, or the digest of run.json. Raises BundleError when an earlier one is damaged, RecordingError when it cannot be
    written.
    """
    earlier = read_addenda(bundle)
    number = len(earlier) + 1
    previous = earlier[-1].record["hash"] if earlier else root or _beginning(bundle)
    record = {
        "format": _FORMAT,
        "number": number,
        "kind": kind,
        "run": json.loads((bundle / layout.RUN).read_bytes())["id"],
        "time": utc_text(clock()),
        "files": {path: digests.record() for path, digests in (files or {}).items()},
        "fields": dict(fields),
    }
    own = link(previous, canonical_json(record))
    name = f"{layout.ADDENDA}/{number:04d}-{kind}.json"
    write_file(bundle / name, readable_json(record | {"previous": previous, "hash": own}))
    make_read_only(bundle / name)
    return name


def _beginning(bundle: Path) -> str:
    from recorder.bundle.manifest import read_manifest

    manifest = read_manifest(bundle)
    return str(manifest["root"]) if manifest is not None else digest((bundle / layout.RUN).read_bytes())
