"""What a release holds, as every description of it sees it. Nothing in a description is taken from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.canonical import parse_utc
from recorder.errors import UsageError
from recorder.ledger import events
from recorder.release.export import Exported
from recorder.release.statement import Statement

CARD = "README.md"
CRATE = "ro-crate-metadata.json"
CITATION = "CITATION.cff"
OPENNESS = "openness.json"
CROISSANT = "croissant.json"
RUNS = "runs"
DATA = "data"

Record = Mapping[str, Any]

_TOLD = frozenset(
    {
        *(events.ATTEMPT_STARTED, events.ATTEMPT_ENDED, events.EXCEPTION, events.WORKER_LOST, events.NODE_LOST),
        *(events.CHECKPOINT_SAVED, events.CHECKPOINT_REMOVED, events.EVALUATED, events.SAMPLE),
        *(events.SEGMENT_CLOSED, events.LOG_CLOSED),
    }
)


@dataclass(frozen=True)
class Told:
    """An event, and the ledger segment that holds it, as a path in the bundle."""

    path: str
    event: dict[str, Any]

    @property
    def fields(self) -> dict[str, Any]:
        """What the event says."""
        fields: dict[str, Any] = self.event["fields"]
        return fields


@dataclass(frozen=True)
class Contents:
    """The released bundles and files.

    `bundles` are the released copies, redacted if they were. `files` has size (bytes), sha256 and blake3 of every file
    by its path in the release, but of descriptions, signature and release.json. `exported` is the model at the top.
    `withheld` are the tombstones of what was kept back (path in the bundle, reason, digests) and `edited` the edits of
    what was redacted (path, digests of the `original`), each with its `run`. `problems` says why bundles
    were published although they do not verify; it is empty where all do. `created` is UTC text.
    """

    bundles: tuple[Bundle, ...]
    files: Mapping[str, Record]
    created: str
    statement: Statement = field(default_factory=Statement)
    exported: Exported | None = None
    withheld: tuple[Record, ...] = ()
    edited: tuple[Record, ...] = ()
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.bundles:
            raise UsageError("a release needs at least one run")
        if len({bundle.id for bundle in self.bundles}) != len(self.bundles):
            raise UsageError("a run can be in a release once")
        if self.exported is not None and self.exported.run not in {bundle.id for bundle in self.bundles}:
            raise UsageError(f"the exported model is that of {self.exported.run}, which is not in the release")
        parse_utc(self.created)

    @property
    def title(self) -> str:
        """What the release is called: as stated, else the names of its runs."""
        names = dict.fromkeys(str(bundle.info.get("name") or bundle.id) for bundle in self.bundles)
        return self.statement.title or ", ".join(names)

    @property
    def date(self) -> str:
        """The day of publication, `2026-11-21`."""
        return self.created[:10]

    def place(self, bundle: Bundle, path: str) -> str:
        """Where the file `path` of a bundle is in the release."""
        return f"{RUNS}/{bundle.id}/{path}"

    def published(self, bundle: Bundle, path: str) -> str | None:
        """The same, or None where the release does not hold that file."""
        place = self.place(bundle, path)
        return place if place in self.files else None

    def below(self, folder: str) -> list[str]:
        """The files below `folder` of the release, sorted."""
        return sorted(path for path in self.files if path.startswith(f"{folder}/"))

    def told(self, bundle: Bundle, *kinds: str) -> Iterator[Told]:
        """The bundle's events of these types, in order; of those types only that descriptions are made of."""
        return (told for told in self._told[bundle.id] if told.event["type"] in kinds)

    @cached_property
    def _told(self) -> dict[str, list[Told]]:
        return {
            bundle.id: [Told(*placed) for placed in bundle.placed_events() if placed[1]["type"] in _TOLD]
            for bundle in self.bundles
        }

    def data_files(self) -> list[str]:
        """The files of the training data that are released with it, sorted; usually none."""
        return self.below(DATA)

    def licence(self, part: str) -> str | None:
        """The stated SPDX id for model, code, documents or data; for data also the one that the runs recorded."""
        if part != "data" or part in self.statement.licences:
            return self.statement.licences.get(part)
        recorded = {(bundle.document(layout.DATASET) or {}).get("licence") for bundle in self.bundles}
        return recorded.pop() if len(recorded) == 1 else None
