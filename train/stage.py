"""What train.py does as a stage of a DVC pipeline: the config DVC locks is the one that is trained, or nothing is.

DVC writes parameters into `params.yaml` and never asks what the stage made of them. So before the first step the config
is compared, key by key, with what DVC will lock. DVC also forgets a stage that was killed: whoever runs it next goes on
with the run that was begun for the same inputs, or takes it as it is when it had finished.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from recorder.bundle.find import bundles, created
from recorder.bundle.reader import Bundle
from recorder.canonical import digest_json, readable_json
from recorder.errors import BundleError, ConfigError, UsageError
from recorder.lock import is_locked, lock_holder
from recorder.tracking.dvc_repository import DvcRepository, StageInputs, find_repository
from recorder.tracking.locked_params import LOCK, OWN_KEYS, differences, flat, load_yaml
from recorder.tracking.stage_pointer import StagePointer, pointer_to
from recorder.tracking.tree import DIRECTORY_SUFFIX, object_name
from recorder.tracking.workspace import STAGE_VARIABLE, lasting
from train.config import Config
from train.origin import Origin, overridden_key

Say = Callable[[str], None]

# What the stage before training says of the prepared data.
DATA = Path("pipeline/data.json")

# How long a run of the same inputs that is still being written is waited for: one that stops takes a few seconds.
_PATIENCE_SECONDS, _LOOK_SECONDS = 60.0, 0.1
FINISHED = "finished"


def asked_values(composed: dict[str, Any], overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The config that was asked for and the names of what was changed in it: `run.params` takes its place if given.

    Raises ConfigError when the file cannot be read, says what a stage cannot do, or differs from the command line.
    """
    file = composed["run"]["params"]
    if file is None:
        return composed, overrides
    values = read_params(file)
    for override in overrides:
        key = overridden_key(override)
        if key not in {"run.params", "run.pointer"}:
            _check_override(key, values, composed, file)
    if values["run"].get("resume") is not None:
        raise ConfigError(
            f"run.resume in {file} has no meaning: a stage goes on with its own run by itself; set it to null"
        )
    values["run"] |= {"params": file, "pointer": composed["run"]["pointer"]}
    return values, [name for name in values if name != "run"]


def read_params(file: str) -> dict[str, Any]:
    """The whole config in a parameters file. Raises ConfigError when it is none."""
    try:
        values = load_yaml(Path(file).read_bytes())
    except (OSError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise ConfigError(f"run.params={file} cannot be read: {reason}") from None
    if not isinstance(values, dict) or not isinstance(values.get("run"), dict):
        raise ConfigError(f"run.params={file} is not a whole config: `python train.py --cfg job` shows one")
    return values


def _check_override(key: str, values: dict[str, Any], composed: dict[str, Any], file: str) -> None:
    """Raise ConfigError when the command line and the file differ in what an override names, a key or a section."""
    sections = values if key == "experiment" else {key.split(".")[0]: values.get(key.split(".")[0])}
    wanted = {name: item for name, item in flat(sections).items() if key == "experiment" or _is_at(name, key)}
    if not wanted:
        raise ConfigError(
            f"{key} is on the command line and not in {file}: leave it out there, or put it into the file"
        )
    for name, (theirs, ours) in sorted(differences(wanted, composed).items()):
        raise ConfigError(
            f"{name} is {ours} on the command line and {theirs} in {file}: leave it out there, or change the file"
        )


def _is_at(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}.")


@dataclass(frozen=True)
class StagePart:
    """What a stage of DVC makes of a request: where the run comes from, what names the stage's inputs in run.json, and
    the bundle that has the stage's result already.

    `data` is the MD5 of the record of prepared data that DVC will lock. Outside of DVC all but `origin` are None.
    """

    origin: Origin
    identity: dict[str, str] | None = None
    finished: Path | None = None
    data: str | None = None

    def check_data(self, record: dict[str, Any]) -> None:
        """Raise UsageError when the data to train with, by its `record`, is other than what DVC will lock."""
        found = hashlib.md5(readable_json(record), usedforsecurity=False).hexdigest()
        if self.data is not None and self.data != found:
            raise UsageError(
                f"DVC will lock {DATA} with MD5 {self.data}, and the data as it is now makes it {found}: nothing was "
                "started; `dvc repro --force --single-item prepare` takes note of the data"
            )


def take_part(origin: Origin, config: Config, say: Say) -> StagePart:
    """Check the request against what DVC will lock, and find the run that was begun for the same inputs.

    Raises UsageError when DVC would lock another config than `origin` would train, or when a run of the same inputs is
    being written for longer than a minute.
    """
    address, root = os.environ.get(STAGE_VARIABLE), find_repository(Path.cwd())
    if not address or root is None:
        return StagePart(origin)
    repository = DvcRepository(root)
    try:
        inputs = repository.stage_inputs(address)
        _check_locked(inputs, origin.values, config.run.params)
        part = StagePart(origin, _identity(inputs, origin.values), data=inputs.dependencies.get(DATA.as_posix()))
        if origin.resume is not None:
            return part
        found = _newest_of(lasting(Path(config.run.dir)), part.identity)
        if found is None:
            return part
        _wait(found, say)
        if Bundle(found).manifest is None or Bundle(found).outcome != FINISHED:
            say(f"run {found.name} was begun by this stage for the same inputs, and goes on")
            return replace(part, origin=replace(origin, resume=found))
        pointer = pointer_to(found, config.run.dir)
        if config.run.pointer is None or _is_locked(pointer, root):
            # DVC has this result and asks again (`--force`): another run.
            return part
        say(f"run {found.name} has finished for the same inputs: nothing is trained again (another run.name would be)")
        return replace(part, finished=found)
    finally:
        repository.close()


def _check_locked(inputs: StageInputs, trained: Mapping[str, Any], params: str | None) -> None:
    """Keys that no config has are other stages' business, unless the file is where the config is from."""
    known = flat(trained)
    for file, locked in inputs.params.items():
        # Hydra's own files have the keys of their group, not of the config.
        if file.startswith("conf/"):
            continue
        ours = {key: value for key, value in flat(locked).items() if file == params or key in known}
        for key, (theirs, own) in sorted(differences(ours, trained).items()):
            raise UsageError(
                f"stage {inputs.name}: DVC will lock {key}={theirs} ({file}), and {key}={own} would be trained: "
                f"nothing was started; give the stage's command run.params={file}, or make the two agree"
            )


def _identity(inputs: StageInputs, trained: Mapping[str, Any]) -> dict[str, str]:
    values = {key: value for key, value in flat(trained).items() if key not in OWN_KEYS}
    return {"name": inputs.name, "inputs": digest_json({"config": values, "dependencies": inputs.dependencies})}


def _is_locked(pointer: StagePointer, root: Path) -> bool:
    """Whether `dvc.lock` has this result: else DVC was killed before it took note, or has it in another experiment."""
    name = object_name(pointer.serialised()).removesuffix(DIRECTORY_SUFFIX)
    try:
        return name in (root / LOCK).read_text()
    except OSError:
        return False


def _newest_of(folder: Path, identity: dict[str, str] | None) -> Path | None:
    """The newest bundle that was begun for `identity`; one that was killed before its first event has nothing."""
    found = [path for path in bundles(folder) if _was_begun_for(path, identity)]
    return max(found, key=lambda path: (created(path), path.name), default=None)


def _was_begun_for(path: Path, identity: dict[str, str] | None) -> bool:
    """The ledger, which may be long, is read only where the few lines of run.json agree."""
    try:
        bundle = Bundle(path)
        return bundle.info.get("stage") == identity and bool(bundle.attempts)
    except BundleError:
        return False


def _wait(path: Path, say: Say) -> None:
    deadline, told = time.monotonic() + _PATIENCE_SECONDS, False
    while is_locked(path.parent, path.name):
        holder = lock_holder(path.parent, path.name)
        if not told:
            say(f"waiting for process {holder}, which still writes run {path.name}")
            told = True
        if time.monotonic() > deadline:
            raise UsageError(
                f"run {path.name} of the same stage and inputs is still being written by process {holder}: "
                f"wait for it, or stop it (kill -TERM {holder})"
            )
        time.sleep(_LOOK_SECONDS)
