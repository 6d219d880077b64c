"""The arguments of this project's Llama, checked without torch."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from recorder.errors import ConfigError
from train.config import ModelConfig, Positive, Section

LLAMA_TARGETS = frozenset({"train.model.Llama", "train.model.llama.Llama"})
DERIVED = {
    "vocab_size": "it is the tokenizer's vocabulary (data.tokenizer)",
    "max_position_embeddings": "it is data.sequence_length",
}


class LlamaArguments(Section):
    """The shape of a Llama, in the words of Hugging Face's `LlamaConfig`; what the data decides is not among them."""

    hidden_size: Positive
    intermediate_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    num_key_value_heads: Positive | None = None
    tie_word_embeddings: bool = False
    rope_theta: Annotated[float, Field(gt=0)] = 10000.0
    rms_norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def key_value_heads(self) -> int:
        """Number of key and value heads: as many as query heads unless fewer were asked for."""
        return self.num_key_value_heads or self.num_attention_heads

    @model_validator(mode="after")
    def _heads_fit(self) -> LlamaArguments:
        heads, key_value_heads = self.num_attention_heads, self.key_value_heads
        if self.hidden_size % heads:
            raise ValueError(
                f"model.hidden_size={self.hidden_size} is not a multiple of model.num_attention_heads={heads}"
            )
        if heads % key_value_heads:
            raise ValueError(
                f"model.num_attention_heads={heads} is not a multiple of model.num_key_value_heads={key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"model.hidden_size={self.hidden_size} over model.num_attention_heads={heads} makes heads of "
                f"{self.head_dim}: rotary positions need an even number"
            )
        return self


def check_model(config: ModelConfig) -> None:
    """Check what can be checked of a model before torch is loaded.

    The arguments of this project's Llama are checked in full, of a user's model only that its top package exists.
    Raises ConfigError with one line that names the key.
    """
    if config.target in LLAMA_TARGETS:
        _check_llama(config.arguments)
        return
    package = config.target.partition(".")[0]
    if package not in sys.modules and find_spec(package) is None:
        raise ConfigError(f"model._target_={config.target}: there is no module {package!r} to import it from")


def unknown_argument(name: str, allowed: Iterable[str], target: str) -> ConfigError:
    """The error for a key that `target` does not take, with the nearest one that it does."""
    names = sorted(allowed)
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean model.{nearest[0]}?" if nearest else f"allowed are {', '.join(names)}"
    return ConfigError(f"model.{name} is not an argument of {target}: {hint}")


def _check_llama(arguments: dict[str, Any]) -> None:
    for name, origin in DERIVED.items():
        if name in arguments:
            raise ConfigError(f"model.{name} cannot be set: {origin}; remove it")
    try:
        LlamaArguments(**arguments)
    except ValidationError as error:
        raise _one_line(error) from None


def _one_line(error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    if first["type"] == "value_error":
        return ConfigError(str(first["ctx"]["error"]))
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return unknown_argument(name, LlamaArguments.model_fields, "train.model.Llama")
    if first["type"] == "missing":
        return ConfigError(f"model.{name} is missing: train.model.Llama needs it")
    return ConfigError(f"model.{name}={first['input']!r} is not allowed: {first['msg'].lower()}")
