"""Where bundles lie for a process that DVC runs in a temporary copy of the repository (`dvc exp run --temp`, queues).

DVC deletes such a copy when its experiment has ended, and says in `DVC_ROOT` which repository it was made from.
"""

from __future__ import annotations

import os
from pathlib import Path

from recorder.tracking.dvc_repository import find_repository

# What DVC sets for the processes of a stage.
STAGE_VARIABLE, EXPERIMENT_VARIABLE = "DVC_STAGE", "DVC_EXP_NAME"
_ROOT_VARIABLE = "DVC_ROOT"


def temporary_workspace() -> tuple[Path, Path] | None:
    """The root of the temporary copy that the current folder is in, and of the repository it was made from.

    None anywhere else.
    """
    original = os.environ.get(_ROOT_VARIABLE)
    copy = find_repository(Path.cwd())
    if not original or copy is None:
        return None
    root = Path(original).resolve()
    return (copy, root) if copy.is_relative_to(root / ".dvc" / "tmp") else None


def lasting(folder: Path) -> Path:
    """The folder of the original repository for a relative one of a temporary copy; `folder` itself anywhere else."""
    workspace = temporary_workspace()
    if workspace is None or folder.is_absolute():
        return folder
    copy, root = workspace
    place = Path.cwd().resolve() / folder
    return root / place.relative_to(copy) if place.is_relative_to(copy) else folder
