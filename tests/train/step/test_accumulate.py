import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.errors import ConfigError
from train.step.accumulate import HEADER, LOSS, STOP, Accumulator, Layout
from train.step.tree import ranges

CPU = torch.device("cpu")
SHAPES = [(3, 5), (7,), ()]


def leaf(number: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(number)
    return torch.rand((), generator=generator), [torch.randn(shape, generator=generator) for shape in SHAPES]


def flat(number: int) -> torch.Tensor:
    loss, gradients = leaf(number)
    header = torch.zeros(HEADER)
    header[LOSS] = loss
    return torch.cat([header, *(gradient.flatten() for gradient in gradients)])


def expected(micro_batches: int, start: int, size: int) -> torch.Tensor | None:
    if start >= micro_batches:
        return None
    if size == 1:
        return flat(start)
    left = expected(micro_batches, start, size // 2)
    right = expected(micro_batches, start + size // 2, size // 2)
    return left if left is None or right is None else left + right


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.data())
def test_roots_are_the_sums_of_their_subtrees(micro_batches: int, data: st.DataObject) -> None:
    workers = data.draw(st.integers(1, micro_batches))
    accumulator = Accumulator(Layout([torch.empty(shape) for shape in SHAPES]), CPU)
    for leaves in ranges(micro_batches, workers):
        accumulator.begin(micro_batches)
        for number in leaves:
            accumulator.add(number, *leaf(number))
        for (start, size), value in accumulator.roots:
            assert torch.equal(value, expected(micro_batches, start, size))


def test_few_buffers_are_allocated_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *args, **kwargs: made.append(args) or zeros(*args, **kwargs))
    accumulator = Accumulator(Layout([torch.empty(shape) for shape in SHAPES]), CPU)
    for _ in range(3):
        accumulator.begin(13)
        for number in range(13):
            accumulator.add(number, torch.tensor(1.0), [torch.ones(shape) for shape in SHAPES])
    assert 0 < len(made) <= 4  # log2(13) + 1, rounded down


def test_an_abandoned_step_leaves_nothing_behind() -> None:
    accumulator = Accumulator(Layout([torch.empty(shape) for shape in SHAPES]), CPU)
    accumulator.begin(4)
    for number in range(3):
        accumulator.add(number, *leaf(number))
    accumulator.roots[0][1][STOP] = 1.0
    accumulator.begin(2)
    for number in range(2):
        accumulator.add(number, *leaf(number))
    [(_, value)] = accumulator.roots
    assert torch.equal(value, flat(0) + flat(1))


def test_a_missing_gradient_is_zero_even_in_a_used_buffer() -> None:
    accumulator = Accumulator(Layout([torch.empty(shape) for shape in SHAPES]), CPU)
    accumulator.begin(1)
    accumulator.add(0, *leaf(0))
    accumulator.begin(1)
    loss, (first, _, last) = leaf(1)
    accumulator.add(0, loss, [first, None, last])
    views = Layout([torch.empty(shape) for shape in SHAPES]).views(accumulator.roots[0][1])
    assert torch.equal(views[0], first)
    assert torch.equal(views[1], torch.zeros(7))
    assert torch.equal(views[2], last)


def test_the_inputs_are_not_written_to() -> None:
    shared = torch.ones(7)
    layout = Layout([torch.empty(7), torch.empty(7)])
    accumulator = Accumulator(layout, CPU)
    accumulator.begin(2)
    for number in range(2):
        accumulator.add(number, torch.tensor(1.0), [shared, shared])
    assert torch.equal(shared, torch.ones(7))
    assert torch.equal(layout.gradient(accumulator.roots[0][1]), torch.full((14,), 2.0))


def test_weights_that_are_not_float32_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"torch.bfloat16; weights must be torch.float32"):
        Layout([torch.empty(3), torch.empty(3, dtype=torch.bfloat16)])
