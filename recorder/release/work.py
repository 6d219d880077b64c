"""A release in the making: what was asked for, and what is done of it, kept so that a killed call is gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from recorder import __version__
from recorder.bundle import layout
from recorder.bundle.files import write_file
from recorder.bundle.manifest import bundle_files, read_manifest
from recorder.canonical import digest, digest_json, readable_json, utc_text
from recorder.release.statement import read_file

FOLDER = ".release"
_JOURNAL = "steps.json"
_STAGE = "release"


@dataclass(frozen=True)
class Request:
    """What is to be released, and how. `key` and `sigstore` are the ways of signing, of which there may be none.

    `allow` are fingerprints of findings of the secrets gate; `withhold` are paths in bundles, with `*`, each with
    `=REASON` or not; `statement` is a file of what the publisher states; `data` is a folder of training data.
    """

    runs: Path
    bundles: tuple[Path, ...]
    allow: tuple[str, ...] = ()
    withhold: tuple[str, ...] = ()
    as_is: bool = False
    key: Path | None = None
    sigstore: bool = False
    statement: Path | None = None
    data: Path | None = None

    @property
    def signed(self) -> str | None:
        """How the release is signed, as release.json says it."""
        return "key" if self.key is not None else "sigstore" if self.sigstore else None

    @cached_property
    def name(self) -> str:
        """What the release is called here: the same for the same bundles, released in the same way by the same code.

        Another version may know more kinds of secrets: what an earlier one did is not gone on with. Raises UsageError
        for a statement that cannot be read.
        """
        asked = {
            "recorder": __version__,
            "bundles": {bundle.name: _state(bundle) for bundle in self.bundles},
            "allow": sorted(self.allow),
            "withhold": sorted(self.withhold),
            "as_is": self.as_is,
            "signed": self.signed,
            "data": _extent(self.data) if self.data is not None else None,
            "statement": digest(read_file(self.statement)) if self.statement is not None else None,
        }
        return f"{self.bundles[0].name[:60]}-{digest_json(asked)[:12]}"


@dataclass
class Work:
    """The folder of one release below the runs: `release/`, which is what is published, and what is done of it.

    `facts` is what steps have found out for those after them and for release.json.
    """

    request: Request
    clock: Callable[[], float] = time.time
    created: str = ""
    done: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the work is kept."""
        return self.request.runs / FOLDER / self.request.name

    @property
    def stage(self) -> Path:
        """The release as it is going to be published."""
        return self.folder / _STAGE

    def load(self) -> None:
        """Go on with what an earlier call has done, if it is still there."""
        try:
            journal = json.loads((self.folder / _JOURNAL).read_bytes())
            self.created = str(journal["created"])
            if self.stage.is_dir():
                self.done, self.facts = dict(journal["done"]), dict(journal["facts"])
        except (OSError, ValueError, LookupError, TypeError):
            self.created = utc_text(self.clock())

    def save(self) -> None:
        """Keep what is done. Raises RecordingError."""
        self.stage.mkdir(parents=True, exist_ok=True)
        journal = {"created": self.created, "done": self.done, "facts": self.facts}
        write_file(self.folder / _JOURNAL, readable_json(journal))


def _extent(folder: Path) -> dict[str, list[int]]:
    """What changes when files below `folder` do, unread: there may be many."""
    found = {path.relative_to(folder).as_posix(): path.lstat() for path in sorted(folder.rglob("*"))}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def _state(bundle: Path) -> Any:
    """What changes when the bundle does: its root and its addenda, or the sizes of the files of an open one."""
    manifest = read_manifest(bundle)
    if manifest is not None:
        # As bytes: a damaged one is for the first step to tell of.
        addenda = sorted((bundle / layout.ADDENDA).glob("*.json"))
        return {"root": manifest["root"], "addenda": {path.name: digest(path.read_bytes()) for path in addenda}}
    return {name: (bundle / name).lstat().st_size for name in bundle_files(bundle)}
