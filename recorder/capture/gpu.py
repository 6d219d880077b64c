"""The NVIDIA GPUs of a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recorder.capture.nvml import open_nvml


def capture_gpus(open_library: Callable[[], tuple[Any, str | None]] = open_nvml) -> dict[str, Any]:
    """Every GPU of the node, visible to this process or not, and the driver.

    `devices` is null, and `problem` says why, where there is a driver that cannot be asked. A `uuid` identifies the
    machine: a release leaves it out.
    """
    nvml, problem = open_library()
    found: dict[str, Any] = {
        "devices": None if problem else [],
        "driver": None,
        "cuda_driver": None,
        "problem": problem,
    }
    if nvml is None:
        return found
    try:
        version = nvml.nvmlSystemGetCudaDriverVersion()
        found["driver"] = nvml.nvmlSystemGetDriverVersion()
        found["cuda_driver"] = f"{version // 1000}.{version % 1000 // 10}"
        found["devices"] = [_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        found |= {"devices": None, "problem": f"NVML: {error}"}
    finally:
        nvml.nvmlShutdown()
    return found


def _device(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return {
        "index": index,
        "name": nvml.nvmlDeviceGetName(handle),
        "uuid": nvml.nvmlDeviceGetUUID(handle),
        "memory_bytes": nvml.nvmlDeviceGetMemoryInfo(handle).total,
        "compute_capability": f"{major}.{minor}",
    }
