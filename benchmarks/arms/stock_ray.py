"""Stock Ray Train as its documentation has it: TorchTrainer, checkpoints through ray.train.report, endless retries.

python -m arms.stock_ray FOLDER ADDRESS
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from arms.ddp import train
from arms.task import WORKERS


def loop(config: dict[str, str]) -> None:
    """Run one worker."""

    def load() -> Any:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            return torch.load(Path(folder) / "state.pt")

    def save(state: dict[str, Any]) -> None:
        if ray.train.get_context().get_world_rank() != 0:
            ray.train.report({"step": state["step"]})
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / "state.pt")
            ray.train.report({"step": state["step"]}, checkpoint=Checkpoint.from_directory(folder))

    train(Path(config["folder"]), ray.get_runtime_context().get_node_id(), load, save)


if __name__ == "__main__":
    folder, address = sys.argv[1:]
    if address == "local":
        ray.init(address="local", num_cpus=WORKERS, include_dashboard=False)
    else:
        ray.init(address=address)
    TorchTrainer(
        loop,
        train_loop_config={"folder": folder},
        scaling_config=ScalingConfig(num_workers=WORKERS),
        run_config=RunConfig(storage_path=f"{folder}/storage", failure_config=FailureConfig(max_failures=-1)),
    ).fit()
