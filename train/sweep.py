"""A sweep (`python train.py -m …`): several runs of one command, linked by an id."""

from __future__ import annotations

import functools
import secrets
import time

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


def sweep_id() -> str | None:
    """The id that all runs of this command share; None for a single run."""
    return _make() if HydraConfig.get().mode == RunMode.MULTIRUN else None


@functools.cache
def _make() -> str:
    return f"sweep-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
