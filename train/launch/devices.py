"""How many GPUs a run uses, decided before Ray starts."""

from __future__ import annotations

from pathlib import Path

from recorder.errors import ConfigError
from train.config import ClusterConfig

# cuBLAS is deterministic only with a fixed workspace; it reads this when it is first used.
DETERMINISTIC_CUDA = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

_DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")


def gpus_to_use(config: ClusterConfig) -> int:
    """The number of GPUs for Ray: one a worker, or 0 for CPU.

    With `auto`, GPUs are used when there is one for every worker. Raises ConfigError when more are asked for than
    this machine has. For a cluster elsewhere `auto` means CPU, because its GPUs cannot be seen from here.
    """
    if config.use_gpu is False or (config.use_gpu == "auto" and config.address != "local"):
        return 0
    if config.address != "local":
        return config.workers
    present = count_gpus()
    if config.use_gpu == "auto":
        return config.workers if present >= config.workers else 0
    if present < config.workers:
        raise ConfigError(
            f"cluster.use_gpu=true with cluster.workers={config.workers} needs {config.workers} GPUs, this machine has "
            f"{present}: lower cluster.workers or set cluster.use_gpu=auto"
        )
    return config.workers


def count_gpus() -> int:
    """The GPUs that torch can use here. torch is only loaded on a machine with a driver: it takes seconds."""
    if not _DRIVER_FOLDER.is_dir() and not Path("/dev/nvidia0").exists():
        return 0
    import torch

    return torch.cuda.device_count()
