"""The way to NVIDIA's management library, which may be missing in several ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_DRIVER = Path("/proc/driver/nvidia/version")


def open_nvml(driver: Path = _DRIVER) -> tuple[Any, str | None]:
    """The initialised `pynvml` module and None; or None and why GPUs that may be there cannot be seen.

    (None, None) says that there is no NVIDIA driver, so nothing to see. Whoever gets the module calls `nvmlShutdown`.
    """
    try:
        import pynvml
    except ImportError:
        return None, "nvidia-ml-py is not installed" if driver.exists() else None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}" if driver.exists() else None
    return pynvml, None
