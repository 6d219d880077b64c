import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_training import LENGTH, VOCABULARY, TinyRun, batches
from torch import nn

from recorder.checkpoint.fingerprint import fingerprint
from recorder.errors import ConfigError, NonFiniteError
from train.step.accumulate import HEADER, LOSS, STOP, Root
from train.step.exchange import SingleExchange


class Poison(SingleExchange):
    """An exchange that puts `value` into one slot of the total."""

    def __init__(self, slot: int, value: float) -> None:
        self._slot, self._value = slot, value

    def sum(self, partial: Sequence[Root], micro_batches: int) -> torch.Tensor:
        total = super().sum(partial, micro_batches)
        total[self._slot] = self._value
        return total


class Fails(SingleExchange):
    def sum(self, partial: Sequence[Root], micro_batches: int) -> torch.Tensor:
        raise RuntimeError("connection reset by peer")


def test_a_step_is_that_of_plain_pytorch() -> None:
    ours = TinyRun(clip_norm=0.5)
    ours.model.eval()  # no dropout
    theirs = TinyRun().model.eval()
    decayed = [parameter for parameter in theirs.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in theirs.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.005, betas=(0.9, 0.95), eps=1e-8)

    result = ours.step.run(1)
    losses = []
    for micro_batch in range(4):
        inputs, targets = batches(1, micro_batch)
        losses.append(nn.functional.cross_entropy(theirs(inputs).flatten(0, 1), targets.flatten()))
    loss = torch.stack(losses).mean()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    optimizer.step()

    assert result.learning_rate == 0.005  # the first of two warm-up steps
    assert result.loss == pytest.approx(loss.item())
    assert result.grad_norm == pytest.approx(norm.item())
    assert result.grad_norm > 0.5
    for mine, reference in zip(ours.model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6)


def test_without_a_clip_norm_the_gradient_is_applied_as_it_is() -> None:
    free, loose, tight = TinyRun(clip_norm=0.0), TinyRun(clip_norm=1e9), TinyRun(clip_norm=1e-9)
    for run in (free, loose, tight):
        run.step.run(1)
    assert fingerprint(free.state()) == fingerprint(loose.state()) != fingerprint(tight.state())


def test_a_resumed_run_equals_the_uninterrupted_one() -> None:
    whole, before, after = TinyRun(), TinyRun(), TinyRun()
    expected = [whole.step.run(step).gradient_digest for step in range(1, 7)]
    for step in range(1, 4):
        before.step.run(step)
    after.model.load_state_dict(before.model.state_dict())
    after.optimizer.load(before.optimizer.tensors(), before.optimizer.scalars())
    assert [after.step.run(step).gradient_digest for step in range(4, 7)] == expected[3:]
    assert fingerprint(after.state()) == fingerprint(whole.state())


def test_a_failed_exchange_leaves_the_state_and_the_step_can_be_taken_again() -> None:
    undisturbed, run = TinyRun(), TinyRun()
    for step in (1, 2):
        undisturbed.step.run(step)
    run.step.run(1)
    state = fingerprint(run.state())
    run.step.exchange = Fails()
    with pytest.raises(RuntimeError, match="connection reset"):
        run.step.run(2)
    assert fingerprint(run.state()) == state
    run.step.exchange = SingleExchange()
    run.step.run(2)
    assert fingerprint(run.state()) == fingerprint(undisturbed.state())


@pytest.mark.parametrize("slot", [LOSS, 100], ids=["loss", "gradient"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_policy_for_a_step_that_is_not_finite(slot: int, value: float) -> None:
    for policy, outcome in (("stop", "stopped"), ("skip", "skipped"), ("continue", "updated")):
        run = TinyRun(Poison(slot, value), non_finite=policy)
        before = fingerprint(run.state())
        result = run.step.run(1)
        assert result.outcome == outcome
        assert not (math.isfinite(result.loss) and math.isfinite(result.grad_norm))
        assert (fingerprint(run.state()) == before) == (policy != "continue")
        assert run.optimizer.updates == (policy == "continue")


def test_a_stopped_run_says_why() -> None:
    result = TinyRun(Poison(LOSS, math.nan)).step.run(3)
    with pytest.raises(NonFiniteError, match=r"^step 3: loss nan and gradient norm 0\.\d+ are not finite"):
        result.raise_if_stopped()
    TinyRun().step.run(1).raise_if_stopped()


def test_a_request_to_stop_reaches_the_result() -> None:
    run = TinyRun()
    assert [run.step.run(1).stop_requested, run.step.run(2, stop_requested=True).stop_requested] == [False, True]
    assert not run.step.run(3).stop_requested
    assert TinyRun(Poison(STOP, 3.0)).step.run(1).stop_requested


def test_a_request_to_stop_changes_no_bits() -> None:
    asked, unasked = TinyRun(), TinyRun()
    assert asked.step.run(1, stop_requested=True).gradient_digest == unasked.step.run(1).gradient_digest
    assert fingerprint(asked.state()) == fingerprint(unasked.state())


def test_bf16_computes_coarsely_and_keeps_float32_weights() -> None:
    fine, coarse = TinyRun(), TinyRun(precision="bf16")
    exact, rounded = fine.step.run(1), coarse.step.run(1)
    assert rounded.loss == pytest.approx(exact.loss, rel=0.02)
    assert rounded.gradient_digest != exact.gradient_digest
    assert {value.dtype for value in coarse.state().values()} == {torch.float32}


def test_the_loss_is_float32_even_of_bfloat16_logits() -> None:
    logits = torch.zeros(2, LENGTH, VOCABULARY, dtype=torch.bfloat16)
    loss = TinyRun(model=Wrong(logits)).forward.loss(batches, "train", 1, 0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(VOCABULARY), rel=1e-6)


def test_the_digest_is_of_the_whole_summed_gradient() -> None:
    class Sees(SingleExchange):
        def sum(self, partial: Sequence[Root], micro_batches: int) -> torch.Tensor:
            total = super().sum(partial, micro_batches)
            self.seen = total.clone()
            return total

    exchange = Sees()
    result = TinyRun(exchange).step.run(1)
    assert result.gradient_digest == fingerprint({"gradient": exchange.seen[HEADER:]})


def test_seconds_are_those_of_the_clock() -> None:
    ticks = iter([0.0, 1.0, 3.0, 7.0])
    seconds = TinyRun(clock=lambda: next(ticks)).step.run(1).seconds
    assert (seconds.compute, seconds.exchange, seconds.update) == (1.0, 2.0, 4.0)


def test_an_unused_parameter_only_decays() -> None:
    model = TinyRun().model
    model.unused = nn.Parameter(torch.ones(2, 2))
    run = TinyRun(model=model)
    run.step.run(1)
    assert torch.equal(model.unused, torch.full((2, 2), 1 - 0.005 * 0.1))


class Counting(nn.Module):
    """A user's model with a buffer that its forward pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, VOCABULARY)
        self.norm = nn.BatchNorm1d(LENGTH)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.norm(self.embedding(tokens))


def test_a_model_with_running_statistics_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"changes its buffer 'norm.running_mean'"):
        TinyRun(model=Counting()).step.run(1)


def test_a_model_whose_statistics_are_fixed_is_taken() -> None:
    model = Counting()
    model.norm.eval()
    assert TinyRun(model=model).step.run(1).outcome == "updated"


class Wrong(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.answer = answer

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.answer


@pytest.mark.parametrize(("answer", "named"), [(torch.zeros(2, 5), r"\(2, 5\)"), ((), "tuple")])
def test_a_model_that_returns_no_logits_is_refused(answer: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=f"returned {named} for tokens"):
        TinyRun(model=Wrong(answer)).step.run(1)
