"""The header of a safetensors file, read without torch and without the tensors.

Format: https://huggingface.co/docs/safetensors (8 bytes little-endian header length, JSON header, the tensors' bytes).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from recorder.errors import BundleError

# What the library itself reads at most.
_LARGEST = 100_000_000


@dataclass(frozen=True)
class Tensor:
    """Element type, as safetensors names it, and shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of the file, by name. Raises BundleError for what is no safetensors file."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > min(_LARGEST, path.stat().st_size):
                raise ValueError(f"its header would have {size} bytes")
            header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        return {
            name: Tensor(str(entry["dtype"]), tuple(map(int, entry["shape"]))) for name, entry in sorted(header.items())
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read as safetensors ({error})") from None
