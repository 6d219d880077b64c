"""The machine that a run runs on: one node's hardware, operating system and surroundings."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from recorder.capture.container import capture_container
from recorder.capture.cpu import capture_cpu
from recorder.capture.gpu import capture_gpus
from recorder.capture.limits import capture_limits
from recorder.capture.variables import capture_variables


def capture_system(environ: Mapping[str, str], storage: Path = Path()) -> dict[str, Any]:
    """This node as plain JSON, described by the schema `system`; sizes are bytes, null is "unknown".

    `storage` is a path on the disk of interest. Never fails for want of a GPU, of its library, or of a file that some
    systems do not have; imports no torch (see `torch_facts`).
    """
    environ = {_encodable(name): _encodable(value) for name, value in environ.items()}
    return {
        "hostname": socket.gethostname(),
        "python": {
            "version": platform.python_version(),
            "implementation": sys.implementation.name,
            "build": " ".join(platform.python_build()),
            "compiler": platform.python_compiler(),
        },
        "os": _operating_system(),
        "cpu": capture_cpu(),
        "memory_bytes": psutil.virtual_memory().total,
        "disk": _disk(storage),
        "limits": capture_limits(),
        "gpu": capture_gpus(),
        "container": capture_container(environ),
        "clock": _clock(environ),
        "environment": capture_variables(environ),
    }


def _encodable(text: str) -> str:
    """Bytes of an environment that are not UTF-8 reach Python as lone surrogates, which JSON files cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _operating_system() -> dict[str, Any]:
    try:
        release = platform.freedesktop_os_release()
        distribution = {"id": release.get("ID"), "name": release.get("NAME"), "version": release.get("VERSION_ID")}
    except OSError:
        distribution = None
    name, version = platform.libc_ver()
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "distribution": distribution,
        "libc": {"name": name, "version": version} if name else None,
    }


def _disk(storage: Path) -> dict[str, Any] | None:
    try:
        usage = psutil.disk_usage(os.fspath(storage))
    except OSError:
        return None
    return {"total_bytes": usage.total, "free_bytes": usage.free}


def _clock(environ: Mapping[str, str]) -> dict[str, Any]:
    """Where times come from: kernel clock source, zone name, and standard-time seconds east of UTC."""
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    _, found, zone = str(Path("/etc/localtime").resolve()).partition("zoneinfo/")
    return {
        "source": source.read_text().strip() if source.exists() else None,
        "time_zone": environ.get("TZ") or (zone if found else None),
        "utc_offset_seconds": -time.timezone,
    }
