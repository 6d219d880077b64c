"""What the installed torch was built from and computes with. Only for callers that use torch anyway."""

from __future__ import annotations

import re
from typing import Any

from recorder.canonical import digest

_LIBRARIES = {
    "mkl": re.compile(r"Math Kernel Library Version (\S+?)(?:-Product| |$)", re.MULTILINE),
    "onednn": re.compile(r"MKL-DNN v(\S+)"),
    "blas": re.compile(r"BLAS_INFO=(\w+)"),
    "lapack": re.compile(r"LAPACK_INFO=(\w+)"),
    "openmp": re.compile(r"OpenMP (\d+)"),
}


def torch_facts() -> dict[str, Any]:
    """Version, build, kernel libraries, CPU capability and thread counts of torch, as it is set up now.

    Imports torch if that has not happened, and initialises CUDA where there is a GPU; `gpus` are those this process
    sees. Libraries that the build lacks, or that have no GPU to run on, are null. `config_digest` is taken over
    `torch.__config__.show()`: the build, and the CPU capability in use.
    """
    import torch

    config = torch.__config__.show()
    has_cuda = torch.version.cuda is not None and torch.cuda.is_available()
    cudnn: Any = torch.backends.cudnn
    found = {name: pattern.search(config) for name, pattern in _LIBRARIES.items()}
    return {
        "version": str(torch.__version__),
        "git_version": torch.version.git_version,
        "config_digest": digest(config.encode()),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "gpus": [_gpu(torch, index) for index in range(torch.cuda.device_count())] if has_cuda else [],
        "libraries": {
            **{name: match[1] if match else None for name, match in found.items()},
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "cudnn": str(cudnn.version()) if has_cuda and cudnn.is_available() else None,
            "nccl": _nccl_version(torch) if has_cuda else None,
        },
    }


def _gpu(torch: Any, index: int) -> dict[str, str]:
    properties = torch.cuda.get_device_properties(index)
    return {"name": properties.name, "compute_capability": f"{properties.major}.{properties.minor}"}


def _nccl_version(torch: Any) -> str | None:
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))
