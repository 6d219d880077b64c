"""A safetensors writer that takes digests of what it writes, in one pass.

Format: https://huggingface.co/docs/safetensors (8 bytes little-endian header length, JSON header padded with spaces,
then the tensors' bytes without gaps). The library writes in native code without a hook for hashing; its reader is what
this writer is tested against. Tensors are ordered by descending element size, then name, so all are aligned.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from recorder.bundle.files import DigestingHasher, FileDigest

if TYPE_CHECKING:
    import torch

_BLOCK = 4 << 20
_DTYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}


def header_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """The header with its length, and the names in file order. Raises TypeError for a dtype the format lacks."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name in order:
        tensor = tensors[name]
        if str(tensor.dtype) not in _DTYPES:
            raise TypeError(f"tensor {name} has dtype {tensor.dtype}, which safetensors cannot hold")
        size = tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": _DTYPES[str(tensor.dtype)], "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, order


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> FileDigest:
    """Write contiguous CPU `tensors` to the new file `path`, durably, and return its digest. Raises OSError."""
    hasher = DigestingHasher()
    _write(path, tensors, metadata, hasher.update)
    return hasher.digest()


def write_with_blake3(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> dict[str, Any]:
    """The same for a file that never leaves its node: the record has no MD5, which takes most of the time."""
    hasher = blake3()
    _write(path, tensors, metadata, hasher.update)
    return {"size": path.stat().st_size, "blake3": hasher.hexdigest()}


def _write(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    written: Callable[[bytes | memoryview], object],
) -> None:
    header, order = header_bytes(tensors, metadata)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _write_view(handle, memoryview(header))
        written(header)
        for name in order:
            for block in _blocks(tensors[name]):
                _write_view(handle, block)
                written(block)
        os.fsync(handle)
    finally:
        os.close(handle)


def _blocks(tensor: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of a contiguous CPU tensor, a block at a time, without a copy."""
    import torch

    if tensor.numel() == 0:
        return
    view = tensor.detach().reshape(-1).view(torch.uint8).numpy().data
    for start in range(0, view.nbytes, _BLOCK):
        yield view[start : start + _BLOCK]


def _write_view(handle: int, view: memoryview) -> None:
    written = 0
    while written < view.nbytes:
        written += os.write(handle, view[written:])
