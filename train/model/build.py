"""Building the configured model: this project's Llama, or whatever a dotted path of the user's leads to."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from recorder.errors import ConfigError
from train.config import ModelConfig
from train.model.arguments import check_model, unknown_argument
from train.step.randomness import reseed


def build_model(config: ModelConfig, *, vocabulary_size: int, sequence_length: int, seed: int) -> nn.Module:
    """The model on the CPU, its weights a function of the configuration and `seed` alone.

    `vocab_size` and `max_position_embeddings` are passed to the target unless it takes no such argument, or the
    configuration gives one itself. Raises ConfigError with one line for a target that cannot be imported, an argument
    that it does not take or that it refuses, and for anything that is not a trainable module.
    """
    check_model(config)
    target = _import(config.target)
    sizes = {"vocab_size": vocabulary_size, "max_position_embeddings": sequence_length}
    arguments = _arguments(target, config, sizes)
    reseed(seed, "init")
    try:
        model = target(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model._target_={config.target} refused its arguments: {_first_line(error)}") from error
    if not isinstance(model, nn.Module) or not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"model._target_={config.target} made a {type(model).__name__}, not a module that can be trained"
        )
    return model


def _import(path: str) -> Callable[..., Any]:
    module_name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"model._target_={path} cannot be imported: {_first_line(error)}") from error
    target = getattr(module, attribute, None)
    if not callable(target):
        problem = "is nothing that can be called" if hasattr(module, attribute) else "does not exist"
        raise ConfigError(f"model._target_={path} {problem}; it must be a class or function in {module_name}")
    return target  # type: ignore[no-any-return]


def _arguments(target: Callable[..., Any], config: ModelConfig, sizes: dict[str, int]) -> dict[str, Any]:
    """The configured arguments and those `sizes` that the target names, checked against its signature."""
    try:
        signature = inspect.signature(target)
    except ValueError:
        raise ConfigError(f"model._target_={config.target} does not say what arguments it takes") from None
    named = {name for name, parameter in signature.parameters.items() if parameter.kind not in _VARIADIC}
    arguments = {name: size for name, size in sizes.items() if name in named} | config.arguments
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for name in arguments:
        if name not in named and not takes_any:
            raise unknown_argument(name, named, config.target)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"model._target_={config.target}: {error}; set it under model") from None
    return arguments


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
