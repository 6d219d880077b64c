"""Which bundle a RUN of the command line is: what `find_run` knows, or the file by which a DVC stage names its run."""

from __future__ import annotations

from pathlib import Path

from recorder.bundle.find import find_run
from recorder.tracking.stage_pointer import read_stage_pointer
from recorder.tracking.workspace import lasting


def referenced_bundle(reference: str, root: Path) -> Path:
    """The folder of the bundle. Raises RunNotFound, which names the candidates or the nearest ids."""
    pointer = read_stage_pointer(Path(reference)) if reference else None
    return pointer.folder() if pointer is not None else find_run(reference, lasting(root))
