"""Which checkpoints a bundle holds, as its events tell, and what a kill left that no event tells of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import FileDigest
from recorder.checkpoint.record import read_commit_marker
from recorder.errors import BundleError
from recorder.ledger import events


class CheckpointInventory:
    """The checkpoints of the bundle in the folder `bundle` that should be there."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self._saved: dict[str, dict[str, Any]] = {}
        self._digests: dict[str, dict[str, FileDigest]] = {}
        self._removed: dict[str, str | None] = {}

    def follow(self, type: str, fields: dict[str, Any]) -> None:
        """Take the next event of the ledger; one that is about no checkpoint changes nothing.

        Raises BundleError, and takes nothing, when it does not say what an event of its type says.
        """
        if type not in {events.CHECKPOINT_SAVED, events.CHECKPOINT_REMOVED}:
            return
        try:
            path, kept_as = fields["path"], fields.get("kept_as")
            if path != layout.checkpoint_folder(fields["step"]):
                raise ValueError(f"{path} is not the folder of step {fields['step']}")
            if kept_as is not None and Path(kept_as).parent != Path(layout.CHECKPOINTS):
                raise ValueError(f"{kept_as} is no folder of a checkpoint")
            if type == events.CHECKPOINT_SAVED:
                self._digests[path] = {name: FileDigest(**record) for name, record in fields["files"].items()}
                self._saved[path] = fields
                self._removed.pop(path, None)
            else:
                self._saved.pop(path, None)
                self._removed[path] = kept_as
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"a {type} event is malformed: {error}") from None

    def newest_first(self) -> list[dict[str, Any]]:
        """What was said of each checkpoint when it was saved."""
        return sorted(self._saved.values(), key=lambda fields: -int(fields["step"]))

    def digests(self) -> dict[str, FileDigest]:
        """The digests of all their files, taken while they were written."""
        return {f"{path}/{name}": digest for path in self._saved for name, digest in self._digests[path].items()}

    def remove(self, path: str, kept_as: str | None = None) -> None:
        """Remove the folder of a checkpoint, or move it to `kept_as`; call it after the event that says so."""
        folder = self._bundle / path
        if kept_as is None:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.is_dir() and not (self._bundle / kept_as).exists():
            folder.rename(self._bundle / kept_as)

    def finish_removals(self) -> None:
        """Do what the ledger says was done, where a kill came between the event and the deed."""
        for path, kept_as in self._removed.items():
            self.remove(path, kept_as)

    def unrecorded(self) -> Iterator[dict[str, Any]]:
        """What a `checkpoint.saved` event would say of each complete checkpoint that has none."""
        for folder in sorted((self._bundle / layout.CHECKPOINTS).glob("step-*")):
            path = f"{layout.CHECKPOINTS}/{folder.name}"
            marker = read_commit_marker(folder) if path not in self._saved else None
            if marker is not None and path == layout.checkpoint_folder(marker["step"]):
                yield {"path": path, **marker}

    def partial(self) -> list[Path]:
        """Folders of checkpoints that were begun and not completed."""
        begun = (self._bundle / layout.CHECKPOINTS).glob(".step-*")
        return sorted(path for path in begun if layout.is_partial(path.name))
