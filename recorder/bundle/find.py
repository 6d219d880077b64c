"""From what a person types to a bundle's folder."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from recorder.bundle import layout
from recorder.canonical import parse_utc
from recorder.errors import RunNotFound

LATEST = "latest"

_LISTED = 5


def find_run(reference: str, root: Path) -> Path:
    """The folder of the bundle that `reference` names: an id or its unique beginning below `root`, a path, or `latest`.

    `latest` is the newest by the time in run.json. A path is whatever holds a run.json, wherever it lies. Raises
    RunNotFound, which names the candidates or the nearest ids.
    """
    if reference == LATEST:
        return _latest(root)
    if layout.is_run_id(reference) and is_bundle(root / reference):
        return root / reference
    if reference and is_bundle(Path(reference)):
        path = Path(reference)
        return path if layout.is_run_id(path.name) else path.resolve()
    names = [path.name for path in bundles(root)]
    matching = [name for name in names if reference and name.startswith(reference)]
    if len(matching) == 1:
        return root / matching[0]
    raise RunNotFound(_explain(reference, root, names, matching))


def bundles(root: Path) -> list[Path]:
    """Every bundle below `root`, sorted by name."""
    try:
        return sorted(path for path in root.iterdir() if layout.is_run_id(path.name) and is_bundle(path))
    except OSError:
        return []


def is_bundle(path: Path) -> bool:
    """Whether `path` is a folder that holds a run.json."""
    try:
        return (path / layout.RUN).is_file()
    except (OSError, ValueError):
        return False


def created(path: Path) -> str:
    """The time in a bundle's run.json, as text that sorts; empty when it cannot be read."""
    try:
        text: str = json.loads((path / layout.RUN).read_bytes())["created"]
        parse_utc(text)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return text


def _latest(root: Path) -> Path:
    found = bundles(root)
    if not found:
        raise RunNotFound(_nothing_in(root))
    return max(found, key=lambda path: (created(path), path.name))


def _explain(reference: str, root: Path, names: list[str], matching: list[str]) -> str:
    if not names:
        return _nothing_in(root)
    if not reference:
        return f"a run's name is missing; {_choose(names)}"
    if matching:
        return f"{reference!r} is the beginning of {len(matching)} runs ({_some(matching)}); write more of it"
    if "/" in reference:
        return f"{reference!r} is no bundle: it is not a folder that holds a {layout.RUN}"
    nearest = difflib.get_close_matches(reference, names, 3, 0.5)
    if nearest:
        return f"no run {reference!r} in {root}; did you mean {' or '.join(nearest)}?"
    return f"no run {reference!r} in {root}; {_choose(names)}"


def _nothing_in(root: Path) -> str:
    where = f"there is no run in {root}" if root.is_dir() else f"the folder {root} does not exist"
    return f"{where}; train one, or name the folder that holds it (--runs DIR, or run.dir=DIR for train.py)"


def _choose(names: list[str]) -> str:
    return f"there are {_some(names)}, or say {LATEST}"


def _some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
