from typing import Any

import pytest
import torch
from torch import nn

from recorder.checkpoint.fingerprint import fingerprint
from recorder.errors import ConfigError
from train.config import ModelConfig
from train.model import Llama, build_model

LLAMA = {
    "_target_": "train.model.Llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


class Bigram(nn.Module):
    """A user's model that knows its vocabulary and nothing of positions."""

    def __init__(self, vocab_size: int, scale: float = 1.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError("scale must be positive\nsecond line")
        self.table = nn.Embedding(vocab_size, vocab_size)


class Sized(nn.Linear):
    def __init__(self, width: int) -> None:
        super().__init__(width, width)


def greedy(**everything: Any) -> nn.Module:
    return Sized(everything["width"])


NOT_CALLABLE = 3


def frozen() -> nn.Module:
    return Sized(2).requires_grad_(False)


def build(seed: int = 1, **config: Any) -> Any:
    return build_model(ModelConfig(**config), vocabulary_size=11, sequence_length=8, seed=seed)


def here(name: str) -> str:
    return f"{__name__}.{name}"


def test_our_llama_gets_the_sizes_of_the_data() -> None:
    model = build(**LLAMA)
    assert isinstance(model, Llama)
    assert model(torch.zeros(1, 8, dtype=torch.int64)).shape == (1, 8, 11)


def test_the_weights_depend_on_the_seed_alone() -> None:
    first = fingerprint(build(**LLAMA).state_dict())
    torch.rand(3)
    assert fingerprint(build(**LLAMA).state_dict()) == first
    assert fingerprint(build(seed=2, **LLAMA).state_dict()) != first


def test_a_users_model_gets_the_sizes_it_names() -> None:
    assert build(_target_=here("Bigram")).table.num_embeddings == 11
    assert build(_target_=here("Bigram"), vocab_size=7).table.num_embeddings == 7
    assert build(_target_=here("Sized"), width=3).in_features == 3
    assert build(_target_=here("greedy"), width=3).in_features == 3


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"_target_": "json.nowhere.Net"},
            "model._target_=json.nowhere.Net cannot be imported: No module named 'json.nowhere'",
        ),
        ({"_target_": "json.Net"}, "model._target_=json.Net does not exist; it must be a class or function in json"),
        (
            {"_target_": here("NOT_CALLABLE")},
            "NOT_CALLABLE is nothing that can be called; it must be a class or function",
        ),
        (
            {"_target_": here("Bigram"), "scal": 2.0},
            "model.scal is not an argument of test_build_model.Bigram: did you mean model.scale?",
        ),
        (
            {"_target_": here("Sized")},
            "test_build_model.Sized: missing a required argument: 'width'; set it under model",
        ),
        (
            {"_target_": here("Bigram"), "scale": -1},
            "test_build_model.Bigram refused its arguments: scale must be positive",
        ),
        ({"_target_": "builtins.dict"}, "model._target_=builtins.dict does not say what arguments it takes"),
        ({"_target_": "pathlib.Path"}, "made a PosixPath, not a module that can be trained"),
        ({"_target_": here("frozen")}, "made a Sized, not a module that can be trained"),
        (LLAMA | {"hidden_size": 15}, "model.hidden_size=15 is not a multiple of model.num_attention_heads=2"),
    ],
)
def test_each_mistake_is_one_clear_line(config: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(**config)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
