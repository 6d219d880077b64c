"""Where a run's config comes from: composed, taken from a recorded run (resume), or from one and changed (fork)."""

from __future__ import annotations

import copy
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recorder.bundle import layout
from recorder.bundle.find import find_run
from recorder.checkpoint.record import damage, read_commit_marker
from recorder.errors import ConfigError, UsageError
from recorder.ledger import events
from recorder.ledger.ledger import read_events
from recorder.release.secrets.rule import HIDDEN
from recorder.tracking.workspace import lasting

# What a resumed run may change: none of it changes the bits.
_FREE_SECTIONS = ("cluster", "checkpoint", "recorder")


@dataclass(frozen=True)
class Origin:
    """The plain config values to validate, the bundle to go on with, or the recorded state to start from.

    A fork that is resumed has all three.
    """

    values: dict[str, Any]
    resume: Path | None = None
    fork: Path | None = None
    fork_step: int | None = None


def resolve_origin(composed: dict[str, Any], overrides: list[str]) -> Origin:
    """Decide where the run comes from. Raises UsageError or ConfigError naming what cannot be done, and what can."""
    run = composed["run"]
    if run["resume"] is not None and run["fork"] is not None:
        raise ConfigError(
            "run.resume and run.fork exclude each other: resume goes on with a run, fork starts a new one"
        )
    if run["resume"] is not None:
        return _resume(composed, overrides)
    if run["fork"] is not None:
        return _fork(composed, overrides)
    return Origin(composed)


def _resume(composed: dict[str, Any], overrides: list[str]) -> Origin:
    path = find_run(composed["run"]["resume"], lasting(Path(composed["run"]["dir"])))
    values = _recorded_values(path)
    for override in overrides:
        key = overridden_key(override)
        if key in {"run.resume", "run.dir"}:
            continue
        if key.split(".")[0] in _FREE_SECTIONS or _is_masked(_recorded(values, key)):
            _set(values, composed, key)
        elif key == "train.steps":
            _raise_steps(values, composed, path)
        else:
            raise UsageError(
                f"{key} cannot change when a run is resumed: its bits would no longer follow from its recorded config; "
                f"start a new run from it with: python train.py run.fork={path.name}@{_newest_step(path)} "
                f"{shlex.quote(override)}"
            )
    _refuse_masked(values, "")
    # A fork that has saved nothing yet goes on from its parent's state; forks lie beside their parents.
    parent, at, step = str(values["run"]["fork"] or "").rpartition("@")
    return Origin(values, path, path.parent / parent, int(step)) if at else Origin(values, path)


def _raise_steps(values: dict[str, Any], composed: dict[str, Any], path: Path) -> None:
    wanted, recorded = composed["train"]["steps"], values["train"]["steps"]
    if not isinstance(wanted, int) or wanted < recorded:
        raise UsageError(f"train.steps={wanted} is less than the {recorded} that run {path.name} was recorded with")
    values["train"]["steps"] = wanted


def _fork(composed: dict[str, Any], overrides: list[str]) -> Origin:
    reference, at, step_text = str(composed["run"]["fork"]).rpartition("@")
    if not at or not step_text.isdigit():
        raise ConfigError(f"run.fork={composed['run']['fork']} is not RUN@STEP, for example run.fork=latest@100")
    path = find_run(reference, lasting(Path(composed["run"]["dir"])))
    step = int(step_text)
    saved = read_commit_marker(path / layout.checkpoint_folder(step))
    if saved is None:
        present = ", ".join(str(checkpoint) for checkpoint in checkpoint_steps(path)) or "none"
        raise UsageError(f"run {path.name} has no checkpoint of step {step}; it has: {present}")
    if wrong := damage(path / layout.checkpoint_folder(step), saved["files"]):
        raise UsageError(f"the checkpoint of step {step} of run {path.name} is damaged: {wrong}; fork another one")
    values = _recorded_values(path)
    values["run"] |= {"id": None, "fork": f"{path.name}@{step}"}
    for override in overrides:
        key = overridden_key(override)
        if key != "run.fork":
            _set(values, composed, key)
    _refuse_masked(values, "")
    return Origin(values, fork=path, fork_step=step)


def checkpoint_steps(path: Path) -> list[int]:
    """The steps whose checkpoints are complete in the bundle, ascending."""
    folders = (path / layout.CHECKPOINTS).glob("step-*")
    steps = [layout.checkpoint_step(folder.name) for folder in folders if (folder / layout.CHECKPOINT_STATE).is_file()]
    return sorted(step for step in steps if step is not None)


def _recorded_values(path: Path) -> dict[str, Any]:
    """The config of the newest attempt."""
    started = [event for event in read_events(path) if event["type"] == events.ATTEMPT_STARTED]
    config = started[-1]["fields"].get("config", layout.RESOLVED_CONFIG) if started else layout.RESOLVED_CONFIG
    return dict(yaml.safe_load((path / config).read_text()))


def _recorded(values: Any, key: str) -> Any:
    """The recorded value of a dotted key; None when there is none."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _is_masked(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_masked, value))
    return isinstance(value, str) and HIDDEN in value


def _refuse_masked(value: Any, key: str) -> None:
    """Credentials are not recorded: what needs one must be given it again."""
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_masked(item, f"{key}.{name}" if key else str(name))
    elif _is_masked(value):
        raise ConfigError(f"{key} held a credential, which the record does not keep: give it again with {key}=VALUE")


def _newest_step(path: Path) -> int | str:
    steps = checkpoint_steps(path)
    return steps[-1] if steps else "STEP"


def overridden_key(override: str) -> str:
    """The dotted key of an override, without its prefix (+, ++, ~), value or package."""
    return override.split("=", 1)[0].lstrip("+~").split("@")[0].replace("/", ".")


def _set(values: dict[str, Any], composed: dict[str, Any], key: str) -> None:
    """Take `key`, a section or a single value, over from what was composed. An experiment takes every section."""
    if key == "experiment":
        values.update(copy.deepcopy({name: item for name, item in composed.items() if name != "run"}))
        return
    *sections, last = key.split(".")
    source, target = composed, values
    for name in sections:
        source, target = source[name], target[name]
    target[last] = copy.deepcopy(source[last])
