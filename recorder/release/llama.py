"""What transformers needs to know to build the Llama that a run trained: `config.json` and `generation_config.json`.

The run's config uses the words of `LlamaConfig` (transformers 5.23); the weights have the same names. Bit for bit the
same logits need float32, `attn_implementation="sdpa"` and the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recorder.errors import BundleError, UsageError
from recorder.release.safetensors_header import Tensor

TARGETS = frozenset({"train.model.Llama", "train.model.llama.Llama"})
# What this project's Llama takes where the run's config leaves a key out.
DEFAULTS: dict[str, Any] = {
    "num_key_value_heads": None,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "dropout": 0.0,
}
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class LlamaShape:
    """Everything that decides names and shapes of the weights, and the constants of the arithmetic."""

    vocab_size: int
    positions: int
    end_of_document: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    tie_word_embeddings: bool
    rope_theta: float
    rms_norm_eps: float
    dropout: float

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


def refusal(config: Mapping[str, Any]) -> str | None:
    """Why the model of this run's config cannot be exported, in one line; None when it can."""
    model = config.get("model")
    target = model.get("_target_") if isinstance(model, dict) else None
    if target in TARGETS:
        return None
    return (
        f"model._target_={target} cannot be exported: transformers has no such model; "
        f"{' and '.join(sorted(TARGETS))} can, and a release without an export holds the checkpoints as recorded"
    )


def llama_shape(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> LlamaShape:
    """The shape by the run's config and its tokenizer's record.

    Raises UsageError for another model, BundleError for a config without what a Llama needs.
    """
    if reason := refusal(config):
        raise UsageError(reason)
    model = DEFAULTS | {key: value for key, value in config["model"].items() if key != "_target_"}
    try:
        heads = int(model["num_attention_heads"])
        return LlamaShape(
            vocab_size=int(tokenizer["vocabulary_size"]),
            positions=int(config["data"]["sequence_length"]),
            end_of_document=int(tokenizer["end_of_document"]),
            **{name: int(model[name]) for name in _SIZES},
            num_key_value_heads=int(model["num_key_value_heads"] or heads),
            tie_word_embeddings=bool(model["tie_word_embeddings"]),
            rope_theta=float(model["rope_theta"]),
            rms_norm_eps=float(model["rms_norm_eps"]),
            dropout=float(model["dropout"]),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise BundleError(
            f"the recorded config does not describe a Llama ({error!r}); the run cannot be exported"
        ) from None


def check_weights(shape: LlamaShape, tensors: Mapping[str, Tensor]) -> str:
    """The weights' element type in transformers' words. Raises BundleError where they are not those of this shape."""
    expected = dict(_weights(shape))
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = wrong[0]
        raise BundleError(
            f"the checkpoint does not fit the recorded config: {name} is {found.get(name, 'missing')}, "
            f"expected was {expected.get(name, 'no such tensor')} ({len(wrong)} tensors differ)"
        )
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1 or not dtypes <= _DTYPES.keys():
        raise BundleError(
            f"the checkpoint has tensors of type {', '.join(sorted(dtypes))}; one of {', '.join(_DTYPES)} is expected"
        )
    return _DTYPES[dtypes.pop()]


def model_config(shape: LlamaShape, dtype: str) -> dict[str, Any]:
    """config.json. `rope_theta` is there for transformers 4, `rope_parameters` is what version 5 reads."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": shape.dropout,
        "bos_token_id": None,
        "dtype": dtype,
        "eos_token_id": shape.end_of_document,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.positions,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape.num_attention_heads,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_key_value_heads": shape.num_key_value_heads,
        "pad_token_id": None,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_parameters": {"rope_theta": shape.rope_theta, "rope_type": "default"},
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "vocab_size": shape.vocab_size,
    }


def generation_config(shape: LlamaShape) -> dict[str, Any]:
    """generation_config.json: a text ends at the end of a document, and at the longest sequence that was trained."""
    return {"eos_token_id": shape.end_of_document, "max_length": shape.positions}


def _weights(shape: LlamaShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each weight; a linear layer from n to m numbers is (m, n)."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    key_value = shape.num_key_value_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab_size, hidden)
    for layer in range(shape.num_hidden_layers):
        below = f"model.layers.{layer}"
        yield f"{below}.input_layernorm.weight", (hidden,)
        yield f"{below}.post_attention_layernorm.weight", (hidden,)
        yield f"{below}.self_attn.q_proj.weight", (hidden, hidden)
        yield f"{below}.self_attn.k_proj.weight", (key_value, hidden)
        yield f"{below}.self_attn.v_proj.weight", (key_value, hidden)
        yield f"{below}.self_attn.o_proj.weight", (hidden, hidden)
        yield f"{below}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{below}.mlp.up_proj.weight", (inner, hidden)
        yield f"{below}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not shape.tie_word_embeddings:
        yield "lm_head.weight", (shape.vocab_size, hidden)
