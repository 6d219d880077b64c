import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recorder.checkpoint.fingerprint import fingerprint
from train.config import OptimConfig
from train.optim import AdamW, learning_rate


def config(**changes: Any) -> OptimConfig:
    values = {
        "lr": 0.01,
        "betas": [0.9, 0.95],
        "eps": 1e-8,
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "warmup_steps": 10,
        "decay_fraction": 0.2,
        "min_lr_ratio": 0.1,
    }
    return OptimConfig(**values | changes)


def module() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3, bias=False))


def gradients(parameters: list[nn.Parameter], step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(parameter.shape, generator=generator) for parameter in parameters]


def test_updates_are_those_of_torchs_fused_adamw_bit_for_bit() -> None:
    ours, theirs = module(), module()
    optimizer = AdamW(ours.named_parameters(), config())
    decayed = [parameter for parameter in theirs.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in theirs.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
    for step in range(1, 6):
        rate = learning_rate(config(), step, 20)
        optimizer.update(gradients(optimizer.parameters, step), rate)
        for group in reference.param_groups:
            group["lr"] = rate
        for parameter, gradient in zip(theirs.parameters(), gradients(optimizer.parameters, step), strict=True):
            parameter.grad = gradient
        reference.step()
    assert fingerprint(ours.state_dict()) == fingerprint(theirs.state_dict()) != fingerprint(module().state_dict())


def test_only_matrices_decay() -> None:
    model = module()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = AdamW(model.named_parameters(), config())
    optimizer.update([torch.zeros_like(parameter) for parameter in optimizer.parameters], 0.5)
    for name, value in model.named_parameters():
        expected = before[name] * (1 - 0.5 * 0.1) if value.ndim >= 2 else before[name]
        torch.testing.assert_close(value.detach(), expected)


def test_frozen_parameters_are_left_out() -> None:
    model = module()
    model[1].requires_grad_(False)
    optimizer = AdamW(model.named_parameters(), config())
    assert optimizer.names == ["0.weight", "0.bias", "2.weight"]
    assert set(optimizer.tensors()) == {
        f"{kind}.{name}" for kind in ("exp_avg", "exp_avg_sq") for name in optimizer.names
    }


def test_a_loaded_state_goes_on_bit_for_bit() -> None:
    first, second = module(), module()
    whole, half = (AdamW(model.named_parameters(), config()) for model in (first, second))
    for step in (1, 2, 3):
        whole.update(gradients(whole.parameters, step), 0.01)
        half.update(gradients(half.parameters, step), 0.01)
    saved = {name: value.clone() for name, value in half.tensors().items()}
    resumed = AdamW(second.named_parameters(), config())
    resumed.load(saved, half.scalars())
    assert resumed.scalars() == {"updates": 3}
    for step in (4, 5):
        whole.update(gradients(whole.parameters, step), 0.01)
        resumed.update(gradients(whole.parameters, step), 0.01)
    assert fingerprint(first.state_dict()) == fingerprint(second.state_dict())
    assert fingerprint(whole.tensors()) == fingerprint(resumed.tensors())


def test_the_state_of_other_parameters_is_refused() -> None:
    optimizer = AdamW(module().named_parameters(), config())
    fewer = optimizer.tensors()
    fewer.popitem()
    other_shape = optimizer.tensors() | {"exp_avg.0.bias": torch.ones(6)}
    for wrong in (fewer, other_shape, optimizer.tensors() | {"more": torch.ones(1)}):
        with pytest.raises(ValueError, match="belongs to other parameters"):
            optimizer.load(wrong, {"updates": 1})
    assert optimizer.updates == 0


def test_an_update_does_not_load_the_compiler() -> None:
    script = (
        "import sys, torch\n"
        "from train.config import OptimConfig\n"
        "from train.optim import AdamW\n"
        f"config = OptimConfig(**{config().model_dump()!r})\n"
        "optimizer = AdamW(torch.nn.Linear(3, 3).named_parameters(), config)\n"
        "optimizer.update([torch.ones(3, 3), torch.ones(3)], 0.1)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_warm_up_rises_in_a_straight_line_to_the_full_rate() -> None:
    rates = [learning_rate(config(), step, 100) for step in range(1, 11)]
    assert rates == pytest.approx([0.001 * step for step in range(1, 11)])
    assert learning_rate(config(warmup_steps=0, schedule="constant"), 1, 100) == 0.01


def test_cosine_ends_at_its_lowest_rate() -> None:
    rates = [learning_rate(config(), step, 110) for step in (10, 60, 110)]
    assert rates == pytest.approx([0.01, 0.01 * (0.1 + 0.9 / 2), 0.001])


def test_wsd_is_stable_and_then_falls_in_a_straight_line() -> None:
    rates = [learning_rate(config(schedule="wsd"), step, 100) for step in (11, 80, 90, 100)]
    assert rates == pytest.approx([0.01, 0.01, 0.0055, 0.001])


def test_constant_stays() -> None:
    assert {learning_rate(config(schedule="constant"), step, 100) for step in range(10, 101)} == {0.01}


@given(
    schedule=st.sampled_from(["cosine", "wsd", "constant"]),
    steps=st.integers(1, 200),
    warmup=st.integers(0, 200),
    decay=st.floats(0, 1),
    ratio=st.floats(0, 1),
)
def test_rates_are_finite_positive_and_never_rise_after_warm_up(
    schedule: str, steps: int, warmup: int, decay: float, ratio: float
) -> None:
    warmup = min(warmup, steps)
    chosen = config(schedule=schedule, warmup_steps=warmup, decay_fraction=decay, min_lr_ratio=ratio)
    rates = [learning_rate(chosen, step, steps) for step in range(1, steps + 1)]
    assert all(math.isfinite(rate) and 0 <= rate <= 0.01 * (1 + 1e-12) for rate in rates)
    falling = rates[max(warmup - 1, 0) :]
    assert all(later <= earlier for earlier, later in pairwise(falling))
