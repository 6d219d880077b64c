"""release.json: every file of a release with its digests, put last. What lacks it is no release, or not one yet.

SHA-256 is there because signatures and the Hub go by it, BLAKE3 because bundles do. `root` is the BLAKE3 of the
canonical JSON of everything else, so that one short value stands for every byte of the release but the signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blake3 import blake3

from recorder.bundle import layout, schema
from recorder.canonical import digest_json, readable_json
from recorder.errors import BundleError

RELEASE = "release.json"
SIGNATURE = "model.sig"
RUNS = layout.RELEASED
CHECKPOINTS = "checkpoints"
FORMAT, VERSION = "run-recorder-release", 1

_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and digests of one file of a release."""

    size: int
    sha256: str
    blake3: str


class ReleaseHasher:
    """The `FileRecord` of the bytes that pass through `update`."""

    def __init__(self) -> None:
        self._sha256, self._blake3, self._size = hashlib.sha256(), blake3(), 0

    def update(self, data: bytes) -> None:
        """Add `data`."""
        self._sha256.update(data)
        self._blake3.update(data)
        self._size += len(data)

    def record(self) -> FileRecord:
        """The record of everything so far."""
        return FileRecord(self._size, self._sha256.hexdigest(), self._blake3.hexdigest())


@dataclass(frozen=True)
class Release:
    """A release.json that was read and is in itself consistent; `files` has neither it nor the signature."""

    document: dict[str, Any]
    files: dict[str, FileRecord]

    @property
    def root(self) -> str:
        """The short value that stands for all of it."""
        return str(self.document["root"])

    @property
    def runs(self) -> dict[str, str | None]:
        """The root of each released bundle by run id; None for one that was published without a seal."""
        return {str(run["id"]): run["root"] for run in self.document["runs"]}

    @property
    def as_is(self) -> bool:
        """Whether it was published although a bundle is open, or did not verify."""
        return bool(self.document["as_is"])

    @property
    def signed(self) -> str | None:
        """How it was signed: `key`, `sigstore`, or None."""
        signed: str | None = self.document["signed"]
        return signed

    @property
    def superseded(self) -> list[dict[str, Any]]:
        """Earlier states of this release, oldest first: root, date, and which checkpoint was withdrawn, and why."""
        return list(self.document.get("superseded", ()))

    def said_of(self, root: str) -> str | None:
        """Why the state of this release that had the root `root` is none any more; None when there was no such one.

        It is what this release says: that it follows the other one is for its signature to vouch.
        """
        found = next((earlier for earlier in self.superseded if earlier["previous_root"] == root), None)
        if found is None:
            return None
        what = f"checkpoint {found['checkpoint']} of {found['run']} was withdrawn"
        return f"superseded on {found['date']} because {what}: {found['reason']}"

    def data(self) -> bytes:
        """The bytes of release.json."""
        return readable_json(self.document)


def record_file(path: Path) -> FileRecord:
    """Read `path` once and return its record. Raises OSError."""
    hasher = ReleaseHasher()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.record()


def record_blocks(blocks: Iterable[bytes]) -> FileRecord:
    """The record of a file that comes in blocks."""
    hasher = ReleaseHasher()
    for block in blocks:
        hasher.update(block)
    return hasher.record()


def build_release(
    files: dict[str, FileRecord],
    *,
    runs: list[dict[str, Any]],
    created: str,
    withheld: list[Any],
    allowed: list[Any],
    as_is: bool,
    signed: str | None,
    superseded: list[Any] | None = None,
) -> Release:
    """The release of `files`; `runs` have id, root, state and outcome of each bundle in it.

    `superseded` are the states of the release that this one follows, oldest first.
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "runs": runs,
        "created": created,
        "files": {path: asdict(record) for path, record in files.items()},
        "withheld": withheld,
        "allowed": allowed,
        "as_is": as_is,
        "signed": signed,
    } | ({"superseded": superseded} if superseded else {})
    return Release(document | {"root": digest_json(document)}, files)


def parse_release(data: bytes, where: str) -> Release:
    """The release.json with content `data`, found at `where`. Raises BundleError when it is not what was written.

    A path in it that leads outside the release's folder is refused.
    """
    title = f"{RELEASE} of {where}"
    try:
        document = json.loads(data)
        if not isinstance(document, dict):
            raise TypeError("not a JSON object")
        canonical = readable_json(document)
    except (ValueError, TypeError, RecursionError) as error:
        raise BundleError(f"{title} is damaged: {error}") from None
    if document.get("format") != FORMAT:
        raise BundleError(f"{title} is not of a release: its format is {document.get('format')!r}")
    if document.get("version") != VERSION:
        raise BundleError(
            f"{title} has version {document.get('version')!r}, this reader knows {VERSION}: install a newer"
        )
    if wrong := schema.violation("release", document):
        raise BundleError(f"{title} is damaged: {wrong}")
    if canonical != data:
        raise BundleError(f"{title} is not in canonical form: it was edited")
    if document["root"] != digest_json({key: value for key, value in document.items() if key != "root"}):
        raise BundleError(f"{title} does not match its own root: it was edited")
    _check_names(document, title)
    return Release(document, {path: FileRecord(**record) for path, record in document["files"].items()})


def _check_names(document: dict[str, Any], title: str) -> None:
    """Raises BundleError for a path or an id that leads elsewhere: they are a stranger's."""
    for path in document["files"]:
        if not is_plain_path(path) or path in {RELEASE, SIGNATURE}:
            raise BundleError(f"{title} names a file that no release can have: {path!r}")
    for run in document["runs"]:
        if not layout.is_run_id(run["id"]):
            raise BundleError(f"{title} names a run that cannot be: {run['id']!r}")


def is_plain_path(path: str) -> bool:
    """Whether `path` names a file below a folder: relative, POSIX, canonical, without `..` and control characters."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and not path.startswith("/")
        and ".." not in parts
        and "\\" not in path
        and path.isprintable()
        and PurePosixPath(path).as_posix() == path
        and path != "."
    )
