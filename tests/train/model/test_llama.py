from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from train.model import Llama

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "max_position_embeddings": 24,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
VARIANTS = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "grouped": {"num_key_value_heads": 2},
    "one key head, tied": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "constants": {"rope_theta": 500000.0, "rms_norm_eps": 1e-5},
}


def reference(shape: dict[str, Any]) -> LlamaForCausalLM:
    rope = {"rope_type": "default", "rope_theta": shape.get("rope_theta", 10000.0)}
    others = {key: value for key, value in shape.items() if key != "rope_theta"}
    return LlamaForCausalLM(LlamaConfig(**others, rope_parameters=rope, attn_implementation="sdpa")).eval()


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def models(request: pytest.FixtureRequest) -> tuple[Llama, LlamaForCausalLM]:
    shape = SHAPE | request.param
    torch.manual_seed(3)
    ours, theirs = Llama(**shape).eval(), reference(shape)
    for weight in ours.parameters():  # away from zero, or attention would hardly matter
        weight.data.mul_(3.0).add_(0.01)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("length", [24, 7, 1])
def test_logits_are_those_of_transformers_bit_for_bit(models: tuple[Llama, LlamaForCausalLM], length: int) -> None:
    ours, theirs = models
    tokens = torch.randint(0, 61, (3, length), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = ours(tokens)
        assert logits.shape == (3, length, 61)
        assert logits.std() > 0.1
        assert torch.equal(logits, theirs(tokens, use_cache=False).logits)


def test_the_state_has_the_names_and_shapes_of_transformers(models: tuple[Llama, LlamaForCausalLM]) -> None:
    ours, theirs = ({name: value.shape for name, value in model.state_dict().items()} for model in models)
    assert ours == theirs


def test_tied_embeddings_are_one_parameter() -> None:
    tied, untied = Llama(**SHAPE, tie_word_embeddings=True), Llama(**SHAPE)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(tied.named_parameters())
    assert "lm_head.weight" in dict(untied.named_parameters())


def test_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(7)
    first = Llama(**SHAPE).state_dict()
    torch.manual_seed(7)
    second = Llama(**SHAPE).state_dict()
    torch.manual_seed(8)
    third = Llama(**SHAPE).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], third["lm_head.weight"])


def test_weights_that_write_to_the_residual_stream_are_smaller() -> None:
    torch.manual_seed(1)
    state = Llama(**SHAPE | {"hidden_size": 256}).state_dict()
    assert state["model.layers.1.mlp.up_proj.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["model.layers.1.mlp.down_proj.weight"].std().item() == pytest.approx(0.02 / 6**0.5, rel=0.05)
    assert state["model.layers.1.self_attn.o_proj.weight"].std().item() == pytest.approx(0.02 / 6**0.5, rel=0.05)
    assert torch.equal(state["model.norm.weight"], torch.ones(256))


def test_no_position_sees_a_later_one() -> None:
    model = Llama(**SHAPE).eval()
    tokens = torch.arange(20)[None]
    changed = tokens.clone()
    changed[0, 12] = 60
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before[:, 12:], after[:, 12:])


def test_dropout_acts_in_training_only() -> None:
    model = Llama(**SHAPE, dropout=0.5)
    tokens = torch.arange(20)[None]
    torch.manual_seed(1)
    first = model(tokens)
    torch.manual_seed(2)
    assert not torch.equal(first, model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_an_impossible_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size=48 is not a multiple"):
        Llama(**SHAPE | {"num_attention_heads": 5})
