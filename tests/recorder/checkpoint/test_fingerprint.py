import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.canonical import canonical_json
from recorder.checkpoint.fingerprint import _sum_on_device, _sum_on_host, fingerprint


def words(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.random.default_rng(seed).integers(-(2**31), 2**31, count, dtype=np.int32)


def of(array: Any) -> str:
    return fingerprint({"weight": array})


def by_definition(name: str, array: np.ndarray[Any, Any], key: str) -> str:
    """The fingerprint of one tensor in Python's own integers, as another tool would write it."""
    context, row = "run-recorder 1 fingerprint", 1024

    def numbers(data: bytes, count: int) -> list[int]:
        material = blake3(data, derive_key_context=context).digest(length=8 * count)
        return [int.from_bytes(material[8 * i : 8 * i + 8], "little") for i in range(count)]

    def row_factor(number: int) -> int:
        mixed = (number + 1) * 0x9E3779B97F4A7C15 % 2**64
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
        return mixed ^ mixed >> 31 | 1

    multipliers = [number | 1 for number in numbers(b"rows", 2 * row)]
    memory = array.tobytes() + bytes(-array.nbytes % 8)
    contents = 0
    for i in range(len(memory) // 8):
        word = int.from_bytes(memory[8 * i : 8 * i + 8], "little", signed=True)
        both, upper = multipliers[i % row], multipliers[row + i % row]
        contents += row_factor(i // row) * (word * both + (word >> 32) * upper)
    addend, factor = numbers(canonical_json([name, array.dtype.name, list(array.shape)]), 2)
    total = numbers(canonical_json(key), 2)[0] + addend + (factor | 1) * contents
    return f"{total % 2**64:016x}"


def test_the_definition() -> None:
    for array in (words(7), words(2048), words(5001), words(8, 1).view(np.float64), np.arange(9, dtype=np.uint8)):
        assert fingerprint({"weight": array}, "seed=1") == by_definition("weight", array, "seed=1")


def test_golden_values() -> None:
    state = {
        "weight": np.arange(5000, dtype=np.float32).reshape(50, 100),
        "bias": np.array([1.5, -0.0, np.nan, np.inf]),
    }
    assert fingerprint({}) == "9580612eff3bb928"
    assert fingerprint(state) == "8e8736da1f1db88f"
    assert fingerprint(state, "blake3-1 seed=1 step=100") == "71d515448074adaf"
    assert of(torch.arange(7, dtype=torch.bfloat16)) == "1955f5915d4beae0"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("count", [1, 7, 2049, 300_001])
def test_every_way_to_the_same_bytes_gives_one_value(dtype: torch.dtype, count: int) -> None:
    tensor = torch.from_numpy(words(count)).to(dtype)
    memory = tensor.view(torch.uint8).numpy()
    assert int(_sum_on_device(torch.from_numpy(memory))) % 2**64 == _sum_on_host(memory) % 2**64
    if dtype != torch.bfloat16:
        assert of(tensor) == of(tensor.numpy())


def test_host_and_device_agree_on_what_takes_them_several_turns() -> None:
    memory = words(2**23 + 5).view(np.uint8)
    assert int(_sum_on_device(torch.from_numpy(memory))) % 2**64 == _sum_on_host(memory) % 2**64


def test_an_empty_tensor_has_a_name_and_a_shape() -> None:
    assert of(torch.empty(0)) == of(np.empty(0, np.float32)) == of(torch.from_numpy(np.empty(0, np.float32)))
    assert len({of(np.empty(shape, np.float32)) for shape in ((0,), (0, 3), (3, 0))}) == 3


def test_views_are_read_by_their_elements() -> None:
    table = torch.from_numpy(words(6000)).view(60, 100)
    for view in (table.t(), table[:, ::3], table[1:, 1:], table.flatten()[1:], table[:, 3], table[5, 7]):
        assert of(view) == of(view.clone(memory_format=torch.contiguous_format)) == of(view.numpy())
    assert of(table.numpy().astype(">i4")) == of(table)
    assert of(torch.nn.Parameter(table.float())) == of(table.float())


def test_the_order_of_the_tensors_does_not_matter() -> None:
    state = {name: words(50, seed) for seed, name in enumerate("abc")}
    assert fingerprint(state) == fingerprint(dict(reversed(state.items())))


def test_names_shapes_types_and_key_matter() -> None:
    zeros = np.zeros((2, 6), np.float32)
    others = [
        fingerprint({"weight": zeros}),
        fingerprint({"weights": zeros}),
        fingerprint({"weight": zeros.reshape(6, 2)}),
        fingerprint({"weight": zeros.reshape(12)}),
        fingerprint({"weight": zeros.view(np.int32)}),
        fingerprint({"weight": np.zeros((2, 7), np.float32)}),
        fingerprint({"weight": zeros, "bias": np.zeros(0, np.float32)}),
        fingerprint({"weight": zeros}, "seed=1"),
        fingerprint({"weight": zeros}, "seed=2"),
    ]
    assert len(set(others)) == len(others)


@settings(deadline=None)
@given(st.integers(0, 8999), st.integers(1, 2**32 - 1))
def test_any_change_of_one_word_is_found(position: int, difference: int) -> None:
    before = words(9000)
    after = before.copy()
    after.view(np.uint32)[position] ^= np.uint32(difference)
    assert of(after) != of(before)


@settings(deadline=None)
@given(st.sets(st.integers(0, 8999), min_size=2, max_size=6), st.integers(0, 31))
def test_the_same_bit_flipped_in_several_words_is_found(positions: set[int], bit: int) -> None:
    before = words(9000)
    after = before.copy()
    after.view(np.uint32)[list(positions)] ^= np.uint32(1 << bit)
    assert of(after) != of(before)


@settings(deadline=None)
@given(st.integers(0, 8999), st.integers(0, 8999))
def test_exchanged_words_are_found_wherever_they_are(first: int, second: int) -> None:
    before = words(9000)
    after = before.copy()
    after[[first, second]] = after[[second, first]]
    assert (of(after) == of(before)) == (first == second)


@pytest.mark.parametrize("value", [0.5, 1.0, -0.0])
def test_equal_pairs_that_become_another_pair_are_found(value: float) -> None:
    before = np.zeros(9000, np.float32)
    found = {of(before)}
    for first, second in ((0, 1), (2, 3), (0, 2048), (0, 4096), (2048, 4096), (8998, 8999)):
        after = before.copy()
        after[[first, second]] = value
        found.add(of(after))
    assert len(found) == 7


@settings(deadline=None)
@given(st.permutations(range(12)))
def test_permuted_blocks_are_found(order: list[int]) -> None:
    before = words(12 * 2048).reshape(12, 2048)
    assert (of(before[order]) == of(before)) == (order == list(range(12)))


def test_exchanged_tensors_are_found() -> None:
    one, other = words(50, 1), words(50, 2)
    assert fingerprint({"a": one, "b": other}) != fingerprint({"a": other, "b": one})


def test_bits_are_compared_not_numbers() -> None:
    assert of(np.array([0.0])) != of(np.array([-0.0]))
    assert of(np.array([np.nan])) == of(np.array([np.nan]))


def test_importing_it_loads_neither_torch_nor_numpy() -> None:
    script = "import sys, recorder.checkpoint.fingerprint\nassert not {'torch', 'numpy'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_numpy_arrays_need_no_torch() -> None:
    script = (
        "import sys, numpy\n"
        "from recorder.checkpoint.fingerprint import fingerprint\n"
        "fingerprint({'a': numpy.ones(3)})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
