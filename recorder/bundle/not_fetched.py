"""The note on which files of a release were not fetched: beside the bundles, and no part of any of them.

Whoever reads a bundle can tell by it what was left behind on purpose from what is lost. It excuses nothing silently:
what it names is stated wherever the bundle is verified.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import write_file
from recorder.canonical import readable_json


def write_not_fetched(runs: Path, root: str, paths: Iterable[str]) -> None:
    """Note in the folder `runs` which `paths` of the release with this `root` were not fetched; none removes it."""
    names = sorted(paths)
    if names:
        write_file(runs / layout.NOT_FETCHED, readable_json({"release": root, "paths": names}))
    else:
        (runs / layout.NOT_FETCHED).unlink(missing_ok=True)


def read_not_fetched(runs: Path) -> set[str]:
    """The paths in the release that are noted; empty where there is no note, or none that can be read."""
    try:
        paths = json.loads((runs / layout.NOT_FETCHED).read_bytes())["paths"]
        return {str(path) for path in paths}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()


def not_fetched_of(bundle: Path) -> set[str]:
    """The paths in the bundle that were not fetched."""
    prefix = f"{layout.RELEASED}/{bundle.name}/"
    return {path[len(prefix) :] for path in read_not_fetched(bundle.parent) if path.startswith(prefix)}
