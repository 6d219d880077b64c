"""The fingerprint: a fast digest of a whole resume state, to find the step at which two runs part.

It is a sum modulo 2^64, so it is exact in any order and on any device, and every 32-bit word of memory is multiplied
by an odd 64-bit number of its own, so moved or swapped values change it (multilinear hashing; Lemire and Kaser 2014).
A change of one word is found with certainty, since an odd number has an inverse; any other change is missed with a
probability of about 2^-32 at worst and 2^-63 as a rule. It is not cryptographic: use it among honest runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from recorder.canonical import canonical_json

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, np.dtype[Any]]

_CONTEXT = "run-recorder 1 fingerprint"
_ROW = 1024  # 64-bit words in a row; the multipliers of a row are those of any other times one number
_ROW_BYTES = 8 * _ROW
_HOST_ROWS = 128  # rows taken at a time: 1 MiB stays in a core's cache
_DEVICE_ROWS = 4096  # 32 MiB, so that temporary tensors stay small


def fingerprint(tensors: Mapping[str, torch.Tensor | Array], key: str = "") -> str:
    """Sixteen hexadecimal digits for the contents, names, shapes and types of `tensors` and for `key`.

    Takes NumPy arrays and torch tensors on any device, contiguous or not; the same numbers give the same value
    wherever they are, in whatever order. `key` is for what the tensors do not hold, such as the state of the random
    generators. Memory is compared, not numbers: -0.0 differs from 0.0, and one NaN from another by its payload.
    """
    contents = {name: _contents(tensor) for name, tensor in tensors.items()}  # a device gets all its work at once
    total, _ = _numbers(key)
    for name, tensor in tensors.items():
        addend, factor = _numbers([name, _type_name(tensor.dtype), list(tensor.shape)])
        total += addend + (factor | 1) * int(contents[name])
    return f"{total % 2**64:016x}"


def _numbers(value: Any) -> tuple[int, int]:
    """Two 64-bit numbers that stand for a JSON value."""
    material = blake3(canonical_json(value), derive_key_context=_CONTEXT).digest(length=16)
    return int.from_bytes(material[:8], "little"), int.from_bytes(material[8:], "little")


def _type_name(dtype: Any) -> str:
    """What NumPy and torch both call the type; byte order is no part of it."""
    return getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")


def _contents(tensor: Any) -> Any:
    """The sum over the memory of one tensor, as an integer or as a scalar tensor on its device."""
    import numpy as np

    if 0 in tensor.shape:
        return 0
    if "torch" in sys.modules and isinstance(tensor, sys.modules["torch"].Tensor):
        memory = _torch_memory(tensor)
        return _sum_on_host(memory.numpy()) if memory.device.type == "cpu" else _sum_on_device(memory)
    little_endian = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
    return _sum_on_host(little_endian.reshape(-1).view(np.uint8))


def _torch_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor in the order of its elements; a copy only where they do not lie so already."""
    import torch

    return tensor.detach().reshape(-1).contiguous().view(torch.uint8)


def _sum_on_host(memory: Array) -> int:
    import numpy as np

    whole = memory.size // _ROW_BYTES * _ROW_BYTES
    rest = np.zeros(_ROW_BYTES, np.uint8)
    rest[: memory.size - whole] = memory[whole:]
    rows = memory[:whole].view("<i8").reshape(-1, _ROW)
    parts = [rows[start : start + _HOST_ROWS] for start in range(0, len(rows), _HOST_ROWS)]
    sums = np.concatenate([_row_sums(part) for part in (*parts, rest.view("<i8").reshape(1, _ROW))])
    return int(sums @ _row_multipliers(len(sums)))


def _row_sums(rows: Array) -> Array:
    import numpy as np

    both, upper = _multipliers()
    sums: Array = np.einsum("ij,j->i", rows, both) + np.einsum("ij,j->i", rows >> 32, upper)
    return sums


def _sum_on_device(memory: torch.Tensor) -> torch.Tensor:
    """The same as `_sum_on_host` in torch's words; nothing waits for the device."""
    import torch

    both, upper = _multipliers_on(memory.device)
    factors = torch.from_numpy(_row_multipliers(-(-memory.numel() // _ROW_BYTES))).to(memory.device)
    total = torch.zeros((), dtype=torch.int64, device=memory.device)
    for start in range(0, len(factors), _DEVICE_ROWS):
        part = memory[start * _ROW_BYTES : (start + _DEVICE_ROWS) * _ROW_BYTES]
        padded = torch.nn.functional.pad(part, (0, -part.numel() % _ROW_BYTES))
        rows = padded.view(torch.int64).view(-1, _ROW)
        sums = (rows * both).sum(1) + ((rows >> 32) * upper).sum(1)
        total += (sums * factors[start : start + _DEVICE_ROWS]).sum()
    return total


@cache
def _multipliers_on(device: torch.device) -> list[torch.Tensor]:
    import torch

    return [torch.tensor(numbers, device=device) for numbers in _multipliers()]


@cache
def _multipliers() -> tuple[Array, Array]:
    """For each 64-bit word of a row, the multiplier of the whole word and that of its upper half once more.

    Its lower half counts `both` times and its upper half `2^32 both + upper` times: two independent odd numbers.
    """
    import numpy as np

    material = blake3(b"rows", derive_key_context=_CONTEXT).digest(length=2 * _ROW_BYTES)
    both, upper = (np.frombuffer(material, "<i8") | 1).reshape(2, _ROW)
    return both, upper


def _row_multipliers(count: int) -> Array:
    """An odd number for each row: the splitmix64 sequence (Steele, Lea and Flood 2014) with its last bit set."""
    import numpy as np

    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) | np.uint64(1)).view(np.int64)
