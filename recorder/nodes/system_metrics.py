"""One row of a node's load at a time: processor, memory, disk, network and NVIDIA GPUs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from recorder.capture.nvml import open_nvml
from recorder.nodes.gpu_metrics import GpuSampler


class SystemSampler:
    """Samples this node. Rates are since the sample before, in the first row since the sampler was made.

    Columns: `cpu_percent` (of all cores), `memory_used_bytes`, `memory_percent`, `disk_read_bytes_per_s`,
    `disk_write_bytes_per_s`, `disk_free_bytes`, `network_sent_bytes_per_s`, `network_received_bytes_per_s`, `load_1m`;
    for GPU i `gpu{i}_utilisation_percent`, `gpu{i}_memory_used_bytes`, `gpu{i}_power_watts`, `gpu{i}_temperature_c`;
    and `gpu_energy_joules`, what all GPUs used since the sampler was made. What the node does not have or tell is no
    column. A rate over no time is NaN.

    `storage` is a path on the disk of interest; `clock` counts seconds. A GPU that fails is reported once through
    `on_error` with one line and sampled no more. psutil's own state is left alone, for others in the process use it.
    """

    def __init__(
        self,
        storage: Path,
        on_error: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        open_library: Callable[[], tuple[Any, str | None]] = open_nvml,
    ) -> None:
        self._storage = str(storage)
        self._clock = clock
        nvml, problem = open_library()
        if problem:
            on_error(f"GPUs are not sampled: {problem}")
        self._gpus = GpuSampler(nvml, on_error, clock) if nvml else None
        self._time = clock()
        self._busy, self._total = _processor_seconds()
        self._counters = _byte_counters()

    def sample(self) -> dict[str, float]:
        """The row of now."""
        memory = psutil.virtual_memory()
        row = {
            "cpu_percent": self._cpu_percent(),
            "memory_used_bytes": float(memory.total - memory.available),
            "memory_percent": memory.percent,
            "load_1m": psutil.getloadavg()[0],
        }
        with suppress(OSError):
            row["disk_free_bytes"] = float(psutil.disk_usage(self._storage).free)
        row |= self._rates()
        if self._gpus:
            row |= self._gpus.sample()
        return row

    def close(self) -> None:
        """Let go of the GPU library."""
        if self._gpus:
            self._gpus.close()

    def _cpu_percent(self) -> float:
        busy, total = _processor_seconds()
        percent = _rate(100 * (busy - self._busy), total - self._total)
        self._busy, self._total = busy, total
        return percent

    def _rates(self) -> dict[str, float]:
        now, counters = self._clock(), _byte_counters()
        rates = {
            f"{name}_bytes_per_s": _rate(value - self._counters[name], now - self._time)
            for name, value in counters.items()
            if name in self._counters
        }
        self._time, self._counters = now, counters
        return rates


def _rate(amount: float, per: float) -> float:
    # A counter goes back when a device is taken away.
    return max(0.0, amount) / per if per > 0 else math.nan


def _processor_seconds() -> tuple[float, float]:
    """Seconds that all cores together have been busy, and seconds in all."""
    times = psutil.cpu_times()
    # Linux counts the time of guests as time of users too.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _byte_counters() -> dict[str, int]:
    """Bytes since boot over all disks and all network interfaces; without those that the system does not count."""
    counters: dict[str, int] = {}
    with suppress(OSError, NotImplementedError):
        if disk := psutil.disk_io_counters(nowrap=False):
            counters |= {"disk_read": disk.read_bytes, "disk_write": disk.write_bytes}
    with suppress(OSError, NotImplementedError):
        if network := psutil.net_io_counters(nowrap=False):
            counters |= {"network_sent": network.bytes_sent, "network_received": network.bytes_recv}
    return counters
