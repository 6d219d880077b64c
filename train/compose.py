"""From Hydra's composed config to a frozen Config; every mistake becomes one line that names the nearest key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from recorder.errors import ConfigError
from train.config import Config
from train.model.arguments import LlamaArguments

_LLAMA_KEYS = [f"model.{name}" for name in LlamaArguments.model_fields]


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, interpolations resolved. Raises ConfigError for a value that is still missing."""
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        raise ConfigError(f"{key} has no value: give one, for example {key}={_example(key)}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}


def compose_file(folder: Path, name: str) -> bytes:
    """The config composed from `folder` without overrides, as `dvc exp run` writes it. Raises Hydra's errors."""
    with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
        cfg = compose(name)
    plain(cfg)
    OmegaConf.resolve(cfg)
    return OmegaConf.to_yaml(cfg).encode()


def plain_hydra() -> Any:
    """Hydra's own configuration of this job, as plain values; interpolations stay as they were written."""
    return OmegaConf.to_container(HydraConfig.instance().cfg or DictConfig({}), resolve=False, enum_to_str=True)


def validate(values: dict[str, Any]) -> Config:
    """The frozen configuration of plain `values`. Raises ConfigError naming the first wrong key."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain_validation(error, values)) from None


def explain(error: Exception) -> ConfigError | None:
    """One line for an error that Hydra or OmegaConf raised over the command line; None for any other error."""
    if isinstance(error, MissingConfigException):
        return ConfigError(_explain_missing_choice(error))
    if isinstance(error, OverrideParseException):
        return ConfigError(f"cannot read the override {error.override!r}: {_first_line(error)}")
    if isinstance(error, ConfigCompositionException):
        return ConfigError(_explain_composition(error))
    if isinstance(error, HydraException | OmegaConfBaseException):
        return ConfigError(_first_line(error))
    return None


def known_keys() -> list[str]:
    """Every public key, dotted, in the order of the schema."""
    return [*_keys_of(Config, ""), *_LLAMA_KEYS]


def nearest(key: str) -> str:
    """` Did you mean …?` for the known key nearest to `key`, or nothing."""
    names = known_keys()
    matches = difflib.get_close_matches(key, names, 1, 0.6)
    if not matches:
        matches = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f" Did you mean {matches[0]}?" if matches else ""


def _keys_of(section: type[BaseModel], prefix: str) -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        dotted = f"{prefix}{field.alias or name}"
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys += _keys_of(annotation, f"{dotted}.")
        else:
            keys.append(dotted)
    return keys


def _explain_validation(error: ValidationError, values: dict[str, Any]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no key {key}.{nearest(key)} `python train.py --cfg job` lists all keys"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "missing":
        return f"{key} is missing from the config"
    if first["type"] == "string_pattern_mismatch":
        return f"{key}={first['input']} is not allowed: use letters, digits, '_', '.' and '-', a letter or digit first"
    allowed = first["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    key = _setting(key, values)
    return f"{key}={first['input']} is not allowed: it should be {allowed}"


def _setting(key: str, values: dict[str, Any]) -> str:
    """The part of a validator's location that is a key: union branches and list positions are left out."""
    found, node = [], values
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            break
        found.append(part)
        node = node[part]
    return ".".join(found) or key


def _explain_composition(error: ConfigCompositionException) -> str:
    text = _first_line(error)
    if match := re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", text):
        key = match[1].split("=")[0].lstrip("+~")
        cause = "is there already: leave out the +" if "append" in match[0] else f"does not exist.{nearest(key)}"
        return f"the key {key} {cause}"
    return text


def _explain_missing_choice(error: MissingConfigException) -> str:
    wanted, options = error.missing_cfg_file or "", list(error.options or [])
    group, _, choice = wanted.rpartition("/")
    match = difflib.get_close_matches(choice, options, 1)
    hint = f" Did you mean {match[0]}?" if match else ""
    return f"{group or 'config'}={choice} is not known; allowed: {', '.join(options) or 'none'}.{hint}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _example(key: str) -> str:
    return "'[a.txt,\"corpus/*.jsonl\"]'" if key == "data.files" else "VALUE"
