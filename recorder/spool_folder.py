"""Where the records of a run wait until they are in its bundle: one folder an attempt, on the node that writes them."""

from __future__ import annotations

import shutil
from pathlib import Path

from recorder.ledger.ledger import genesis


def spool_folder(spools: Path, bundle: Path, attempt: int) -> Path:
    """The folder of one attempt below `spools`. Bundles of the same id in different folders have different ones."""
    return spools / bundle.name / f"{_prefix(bundle)}{attempt:04d}"


def remove_spool_folders(spools: Path, bundle: Path) -> None:
    """Remove all that a run left below `spools`; where a run of the same id uses the folder too, its own attempts."""
    shared, prefix = spools / bundle.name, _prefix(bundle)
    others = [path for path in shared.glob("????????-[0-9]*") if not path.name.startswith(prefix)]
    for folder in shared.glob(f"{prefix}*") if others else [shared]:
        shutil.rmtree(folder, ignore_errors=True)


def _prefix(bundle: Path) -> str:
    return f"{genesis(bundle)[:8]}-"
