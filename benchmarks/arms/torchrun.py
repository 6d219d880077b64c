"""A script for torchrun: checkpoints by the first worker into a folder, replaced at once.

python -m torch.distributed.run --max-restarts=… -m arms.torchrun FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from arms.ddp import train

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    checkpoint = folder / "state.pt"

    def load() -> Any:
        """The newest checkpoint, if there is one."""
        return torch.load(checkpoint) if checkpoint.exists() else None

    def save(state: dict[str, Any]) -> None:
        """Write it beside the one before, and put it in its place."""
        if dist.get_rank() == 0:
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)

    dist.init_process_group("gloo")
    train(folder, "this machine", load, save)
    dist.destroy_process_group()
