from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recorder.bundle.files import digest_file
from recorder.checkpoint import safetensors_file
from recorder.checkpoint.safetensors_file import header_bytes, write_safetensors

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def some_tensor(dtype: torch.dtype, shape: list[int], seed: int = 0) -> torch.Tensor:
    """Any bits the type can have: NaN payloads, negative zeros and subnormal numbers too."""
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).to(torch.bool)
    size = torch.empty(0, dtype=dtype).element_size()
    data = torch.randint(0, 256, (count * size,), generator=generator, dtype=torch.uint8)
    return data.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    return tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


SHAPES = st.lists(st.integers(0, 4), max_size=3)
TENSORS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.builds(some_tensor, st.sampled_from(DTYPES), SHAPES, st.integers(0, 99)),
    max_size=6,
)


@given(TENSORS)
@settings(deadline=None, max_examples=60)
def test_the_library_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    assert write_safetensors(path, tensors, {"format": "pt", "step": "7"}) == digest_file(path)
    read = load_file(path)
    assert {name: bits(tensor) for name, tensor in read.items()} == {
        name: bits(tensor) for name, tensor in tensors.items()
    }
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "step": "7"}


def test_a_tensor_larger_than_a_block_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_file, "_BLOCK", 1000)
    tensors = {"large": some_tensor(torch.float32, [999]), "small": some_tensor(torch.int8, [3])}
    path = tmp_path / "model.safetensors"
    assert write_safetensors(path, tensors, {}) == digest_file(path)
    assert {name: bits(tensor) for name, tensor in load_file(path).items()} == {
        name: bits(tensor) for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_data_is_what_the_library_writes(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {f"t{number}": some_tensor(dtype, [3, number], number) for number in range(4)}
    write_safetensors(tmp_path / "ours", tensors, {})
    save_file(tensors, tmp_path / "theirs")
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("ours", "theirs"))
    data = sum(tensor.nbytes for tensor in tensors.values())
    assert ours[-data:] == theirs[-data:]


def test_the_header_is_aligned_and_its_offsets_have_no_gaps() -> None:
    dtypes = {"b": torch.int8, "c": torch.float64, "a": torch.int8}
    header, order = header_bytes({name: some_tensor(dtype, [3]) for name, dtype in dtypes.items()}, {"step": "1"})
    assert order == ["c", "a", "b"]
    assert len(header) % 8 == 0
    assert int.from_bytes(header[:8], "little") == len(header) - 8
    described = json.loads(header[8:])
    assert [described[name]["data_offsets"] for name in order] == [[0, 24], [24, 27], [27, 30]]


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"earlier")
    with pytest.raises(FileExistsError):
        write_safetensors(path, {}, {})
    assert path.read_bytes() == b"earlier"


def test_a_type_that_the_format_lacks_is_named() -> None:
    with pytest.raises(TypeError, match=r"tensor odd has dtype torch\.complex128, which safetensors cannot hold"):
        header_bytes({"odd": torch.zeros(2, dtype=torch.complex128)}, {})
