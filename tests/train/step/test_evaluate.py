import pytest
import torch
from tiny_training import SEED, TinyRun, batches
from torch import nn

from train.step.evaluate import evaluate
from train.step.exchange import SingleExchange
from train.step.quorum import Alone
from train.step.randomness import reseed


def test_the_mean_loss_without_dropout() -> None:
    run = TinyRun()
    loss = evaluate(run.forward, batches, SingleExchange(), step=1, micro_batches=3)
    run.model.eval()
    expected = []
    for micro_batch in range(3):
        inputs, targets = batches(1, micro_batch)
        expected.append(nn.functional.cross_entropy(run.model(inputs).flatten(0, 1), targets.flatten()).item())
    assert loss == pytest.approx(sum(expected) / 3)


class Asked(Alone):
    """A quorum that notes what it is asked, and ends the round at the `fails`-th question."""

    def __init__(self, fails: int = 0) -> None:
        self.asked: list[str] = []
        self._fails = fails

    def check(self) -> None:
        self.asked.append("check")
        if len(self.asked) == self._fails:
            raise ConnectionError

    def arrive(self) -> None:
        self.asked.append("arrive")


def test_who_evaluates_comes_to_the_exchange_when_its_part_is_done() -> None:
    """The others are waited for from then on, however long an evaluation takes."""
    run, quorum = TinyRun(), Asked()
    run.model.register_forward_hook(lambda *_: quorum.asked.append("forward"))
    evaluate(run.forward, batches, SingleExchange(), step=1, micro_batches=2, quorum=quorum)
    assert quorum.asked == ["check", "forward", "check", "forward", "arrive"]


def test_a_round_that_is_over_ends_an_evaluation_between_micro_batches() -> None:
    run, quorum = TinyRun(), Asked(fails=2)
    with pytest.raises(ConnectionError):
        evaluate(run.forward, batches, SingleExchange(), step=1, micro_batches=9, quorum=quorum)
    assert quorum.asked == ["check"] * 2
    assert run.model.training


def test_each_module_is_left_in_its_own_mode() -> None:
    run = TinyRun()
    frozen = run.model.model.norm.eval()
    evaluate(run.forward, batches, SingleExchange(), step=1, micro_batches=1)
    assert not frozen.training
    assert run.model.training


def test_training_goes_on_as_if_there_had_been_no_evaluation() -> None:
    evaluated, other = TinyRun(), TinyRun()
    evaluate(evaluated.forward, batches, SingleExchange(), step=0, micro_batches=2)
    assert evaluated.step.run(1).gradient_digest == other.step.run(1).gradient_digest


def test_the_model_is_called_without_gradients_and_with_randomness_of_its_own() -> None:
    run = TinyRun()
    calls = []
    run.model.register_forward_hook(lambda *_: calls.append((torch.is_grad_enabled(), torch.initial_seed())))
    evaluate(run.forward, batches, SingleExchange(), step=1, micro_batches=2)
    expected = []
    for micro_batch in range(2):
        reseed(SEED, "evaluate", 1, micro_batch)
        expected.append((False, torch.initial_seed()))
    assert calls == expected
    assert torch.is_grad_enabled()
