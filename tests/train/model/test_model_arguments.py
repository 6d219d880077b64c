import inspect
import subprocess
import sys
from typing import Any

import pytest

from recorder.errors import ConfigError
from train.config import ModelConfig
from train.model import Llama, LlamaArguments, check_model

GOOD = {
    "_target_": "train.model.Llama",
    "hidden_size": 64,
    "intermediate_size": 100,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        check_model(ModelConfig(**GOOD | changes))
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_good_arguments_pass() -> None:
    check_model(ModelConfig(**GOOD))
    check_model(ModelConfig(**GOOD, num_key_value_heads=2, rope_theta=500000, dropout=0.1, tie_word_embeddings=True))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": 66}, "model.hidden_size=66 is not a multiple of model.num_attention_heads=4"),
        (
            {"num_key_value_heads": 3},
            "model.num_attention_heads=4 is not a multiple of model.num_key_value_heads=3",
        ),
        (
            {"hidden_size": 12},
            "model.hidden_size=12 over model.num_attention_heads=4 makes heads of 3: rotary positions need an even "
            "number",
        ),
        (
            {"hiden_size": 3},
            "model.hiden_size is not an argument of train.model.Llama: did you mean model.hidden_size?",
        ),
        ({"hidden_size": "64"}, "model.hidden_size='64' is not allowed: input should be a valid integer"),
        ({"hidden_size": 0}, "model.hidden_size=0 is not allowed: input should be greater than 0"),
        ({"dropout": 1.5}, "model.dropout=1.5 is not allowed: input should be less than 1"),
        ({"dropout": -0.1}, "model.dropout=-0.1 is not allowed: input should be greater than or equal to 0"),
        ({"tie_word_embeddings": 1}, "model.tie_word_embeddings=1 is not allowed: input should be a valid boolean"),
        (
            {"vocab_size": 9},
            "model.vocab_size cannot be set: it is the tokenizer's vocabulary (data.tokenizer); remove it",
        ),
        (
            {"max_position_embeddings": 9},
            "model.max_position_embeddings cannot be set: it is data.sequence_length; remove it",
        ),
        (
            {"_target_": "no_such_package.Net"},
            "model._target_=no_such_package.Net: there is no module 'no_such_package' to import it from",
        ),
    ],
)
def test_each_mistake_is_one_clear_line(changes: dict[str, Any], expected: str) -> None:
    assert refusal(**changes) == expected


def test_a_name_like_no_other_lists_what_is_allowed() -> None:
    assert "allowed are dropout, hidden_size, intermediate_size" in refusal(xyzzy=1)


def test_a_missing_argument_is_named() -> None:
    arguments = {key: value for key, value in GOOD.items() if key != "hidden_size"}
    with pytest.raises(ConfigError, match=r"^model.hidden_size is missing: train.model.Llama needs it$"):
        check_model(ModelConfig(**arguments))


def test_a_users_model_is_not_imported() -> None:
    check_model(ModelConfig(_target_="json.no_such_function", anything="goes"))
    check_model(ModelConfig(_target_="__main__.Net"))


def test_the_checked_arguments_are_those_of_the_class() -> None:
    parameters = dict(inspect.signature(Llama).parameters)
    assert parameters.pop("vocab_size").default is parameters.pop("max_position_embeddings").default
    defaults = {
        name: field.get_default() for name, field in LlamaArguments.model_fields.items() if not field.is_required()
    }
    assert set(parameters) == set(LlamaArguments.model_fields)
    assert {name: value.default for name, value in parameters.items() if value.default is not value.empty} == defaults


def test_checking_does_not_load_torch() -> None:
    script = (
        "import sys\n"
        "from train.config import ModelConfig\n"
        "from train.model import check_model\n"
        f"check_model(ModelConfig(**{GOOD!r}))\n"
        "assert 'torch' not in sys.modules\n"
        "from train.model import Llama, build_model\n"
        "assert 'torch' in sys.modules and 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
