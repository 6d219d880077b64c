import pytest
import torch
from tiny_training import TinyRun, batches
from torch import nn

from train.step.evaluate import evaluate
from train.step.exchange import SingleExchange


def test_the_mean_loss_without_dropout() -> None:
    run = TinyRun()
    loss = evaluate(run.forward, batches, SingleExchange(), step=1, micro_batches=3)
    run.model.eval()
    expected = []
    for micro_batch in range(3):
        inputs, targets = batches(1, micro_batch)
        expected.append(nn.functional.cross_entropy(run.model(inputs).flatten(0, 1), targets.flatten()).item())
    assert loss == pytest.approx(sum(expected) / 3)


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


def test_fewer_micro_batches_than_workers_are_refused() -> None:
    class Two(SingleExchange):
        workers = 2

    with pytest.raises(ValueError, match="1 micro-batches cannot be shared among 2 workers"):
        evaluate(TinyRun().forward, batches, Two(), step=1, micro_batches=1)


def test_no_gradients_are_kept() -> None:
    run = TinyRun()
    evaluate(run.forward, batches, SingleExchange(), step=1, micro_batches=1)
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert torch.is_grad_enabled()
