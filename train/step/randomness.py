"""Randomness without state: every generator is reseeded for each piece of work, so none has to be carried or saved.

The seeds are a function of (seed, purpose, step, micro-batch) alone. Dropout and sampling therefore do not depend on
which worker does the work, on what it did before, or on whether the run was ever interrupted.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from blake3 import blake3

from recorder.canonical import canonical_json

SCHEME = "blake3-1"
_CONTEXT = "run-recorder 1 random seeds"


def reseed(seed: int, purpose: str, step: int = 0, micro_batch: int = 0) -> None:
    """Seed the generators of Python, NumPy (the global one) and torch on CPU and CUDA for one piece of work.

    The seeds are 80 bytes of BLAKE3 in its key-derivation mode over the canonical JSON of the four arguments, in
    this order: torch 8, Python 8, NumPy 64.
    """
    material = blake3(canonical_json([seed, purpose, step, micro_batch]), derive_key_context=_CONTEXT).digest(length=80)
    torch.manual_seed(int.from_bytes(material[:8], "little", signed=True))
    random.seed(int.from_bytes(material[8:16], "little"))
    np.random.seed(np.frombuffer(material[16:], dtype="<u4"))


def randomness_key(seed: int, step: int) -> str:
    """The whole random state before `step`, as text: it goes into the fingerprint of the resume state."""
    return f"{SCHEME} seed={seed} step={step}"
