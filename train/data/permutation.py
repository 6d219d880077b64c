"""A keyed permutation of 0..n-1 that needs no memory: any place of any epoch's order is computed on its own.

A balanced Feistel network over the next even power of two, walked until the value is below n (Black and Rogaway,
"Ciphers with Arbitrary Finite Domains", 2002). The round function is the finaliser of SplitMix64 (Steele, Lea and
Flood, 2014), the round keys are BLAKE3 of the seed and the epoch. The order is public, so it need not resist attack,
only look random; what matters is that it is integer arithmetic, the same on every machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from blake3 import blake3

_ROUNDS = 8
PERMUTATION = {"name": "feistel-blake3-splitmix64", "version": 1, "rounds": _ROUNDS}

_CONTEXT = "run-recorder data order 1"


def permuted(places: npt.NDArray[np.int64], count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """What the order of `epoch` has at `places` (each in 0..count-1, any shape): distinct values in 0..count-1.

    A pure function; time and memory depend on the number of places, not on `count`.
    """
    keys = _round_keys(seed, epoch)
    half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
    values = _encrypted(places.astype(np.uint64), keys, half_bits)
    # At most 3 of 4 values lie outside, and each walk ends: the cycle leads back to its beginning, which is inside.
    while (outside := values >= count).any():
        values[outside] = _encrypted(values[outside], keys, half_bits)
    return values.astype(np.int64)


def _round_keys(seed: int, epoch: int) -> npt.NDArray[np.uint64]:
    material = blake3(f"{seed} {epoch}".encode(), derive_key_context=_CONTEXT).digest(length=8 * _ROUNDS)
    return np.frombuffer(material, np.dtype("<u8"))


def _encrypted(values: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], half_bits: int) -> npt.NDArray[np.uint64]:
    bits = np.uint64(half_bits)
    left, right = values >> bits, values & np.uint64((1 << half_bits) - 1)
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) >> np.uint64(64 - half_bits))
    return left << bits | right


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
