"""What `dvc.lock` holds of a run: DVC writes the parameters down after the stage, as the file has them by then.

So a parameters file that was edited while training went on is locked although nobody trained with it. Nothing of DVC is
needed to find that out.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from recorder.bundle.find import is_bundle
from recorder.bundle.reader import Bundle
from recorder.errors import BundleError
from recorder.tracking.dvc_repository import find_repository
from recorder.tracking.stage_pointer import parse_stage_pointer

LOCK = "dvc.lock"

# Differ by design: the recorder gives the id, and the others say how this one call was made.
OWN_KEYS = frozenset({"run.id", "run.resume", "run.params", "run.pointer"})

_MISSING = object()

# How many folders below the root a pipeline may lie.
_DEEPEST = 4


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers, as DVC writes and reads them: `1e-05` is one, which it is not in YAML 1.1."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
# The first match wins, and what has neither dot nor exponent is an integer.
for _resolvers in _Loader.yaml_implicit_resolvers.values():
    _resolvers.sort(key=lambda resolver: resolver[0] == "tag:yaml.org,2002:float")


def load_yaml(data: bytes) -> Any:
    """The plain values of YAML with YAML 1.2's numbers. Raises yaml.YAMLError."""
    return yaml.load(data, _Loader)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key and value of every leaf; an empty mapping is a leaf. Dotted keys stay as they are."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def differences(locked: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key, locked value and trained value (None where there is none) of every leaf of `locked` that differs.

    A fork from `latest` is recorded with the run that this was.
    """
    ours, found = flat(trained), {}
    for key, value in flat(locked).items():
        known = ours.get(key, _MISSING)
        own = key in OWN_KEYS or (key == "run.fork" and value is not None)
        if not own and not _same(value, known):
            found[key] = (value, None if known is _MISSING else known)
    return found


def locked_faults(bundle: Path, run: str) -> list[str]:
    """What every `dvc.lock` that names the run in the folder `bundle` says otherwise than its recorded config."""
    roots = {root for folder in (Path.cwd(), bundle) if (root := find_repository(folder)) is not None}
    try:
        folders = {folder for root in roots for folder in _folders_with_lock(root)}
        stages = [found for folder in sorted(folders) for found in _stages_of(folder, run)]
        config = Bundle(bundle).config if stages else {}
    except BundleError as error:
        return [str(error)]
    if not stages:
        return []
    # What is secret is masked in the record, and is compared as it is there.
    from recorder.release.secrets.masking import mask_values

    return [
        f"{LOCK} holds {key}={locked} of stage {stage} for this run, which trained with {key}={trained}"
        for stage, params in stages
        for key, (locked, trained) in sorted(differences(mask_values(params), config).items())
    ]


def _folders_with_lock(root: Path) -> Iterator[Path]:
    """Folders of the repository that hold a `dvc.lock`: pipelines may lie in folders, four deep; no bundle does."""
    for name, folders, files in os.walk(root):
        folder = Path(name)
        ours, is_deep = is_bundle(folder), len(folder.relative_to(root).parts) >= _DEEPEST
        if LOCK in files and not ours:
            yield folder
        folders[:] = [] if is_deep or ours else [name for name in folders if not name.startswith(".")]


def _stages_of(folder: Path, run: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and parameters of each locked stage whose pointer, as it was locked, names `run`."""
    try:
        stages = load_yaml((folder / LOCK).read_bytes()).get("stages", {})
        for name, stage in stages.items():
            if any(_names(folder / out["path"], str(out.get("md5")), run) for out in stage.get("outs", [])):
                yield name, {key: value for params in stage.get("params", {}).values() for key, value in params.items()}
    except FileNotFoundError:
        return
    except (yaml.YAMLError, OSError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder / LOCK} cannot be read: {' '.join(str(error).split())}") from None


def _names(path: Path, md5: str, run: str) -> bool:
    if path.suffix != ".json" or not path.is_file():
        return False
    data = path.read_bytes()
    pointer = parse_stage_pointer(data)
    same = hashlib.md5(data, usedforsecurity=False).hexdigest() == md5
    return same and pointer is not None and pointer.run == run


def _same(locked: Any, trained: Any) -> bool:
    if isinstance(locked, bool) or isinstance(trained, bool):
        return locked is trained
    return bool(locked == trained)
