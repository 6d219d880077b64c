"""Load, memory, power, temperature and energy of a node's NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_READINGS: dict[str, Callable[[Any, Any], float]] = {
    "utilisation_percent": lambda nvml, gpu: float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
    "memory_used_bytes": lambda nvml, gpu: float(nvml.nvmlDeviceGetMemoryInfo(gpu).used),
    "power_watts": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    "temperature_c": lambda nvml, gpu: float(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
}


class GpuSampler:
    """Samples every GPU through `nvml`, an initialised `pynvml`; `clock` counts seconds.

    A GPU that fails, or cannot be opened, is reported once through `on_error` with one line and asked no more.
    """

    def __init__(self, nvml: Any, on_error: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._nvml = nvml
        self._on_error = on_error
        self._clock = clock
        self._living: dict[int, _Gpu] = {}
        self._meters: list[_Gpu] = []
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            on_error(f"GPUs are not sampled: NVML: {error}")
            count = 0
        for index in range(count):
            self._attempt(index, self._open)

    def sample(self) -> dict[str, float]:
        """Columns `gpu{i}_…` of each GPU, without those a model does not support, and `gpu_energy_joules` of all.

        The energy is since the sampler was made, of GPUs that have failed until then; it never falls.
        """
        row: dict[str, float] = {}
        for index in list(self._living):
            self._attempt(index, lambda index: row.update(self._living[index].sample(self._clock())))
        metered = [gpu.joules for gpu in self._meters if gpu.joules is not None]
        return row | {"gpu_energy_joules": sum(metered)} if metered else row

    def close(self) -> None:
        """Shut the library down."""
        self._nvml.nvmlShutdown()

    def _open(self, index: int) -> None:
        gpu = _Gpu(self._nvml, index, self._clock())
        self._living[index] = gpu
        self._meters.append(gpu)

    def _attempt(self, index: int, action: Callable[[int], None]) -> None:
        try:
            action(index)
        except self._nvml.NVMLError as error:
            self._living.pop(index, None)
            self._on_error(f"GPU {index} is not sampled any more: NVML: {error}")


class _Gpu:
    """One GPU; `joules` is its energy since it was opened, None where it tells neither energy nor power."""

    def __init__(self, nvml: Any, index: int, now: float) -> None:
        self._nvml = nvml
        self._index = index
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self._first_counter = self._energy_counter()
        self._time = now
        self.joules: float | None = None if self._first_counter is None else 0.0

    def sample(self, now: float) -> dict[str, float]:
        """The GPU's columns. Raises NVMLError."""
        row = {}
        for name, read in _READINGS.items():
            value = self._supported(read)
            if value is not None:
                row[f"gpu{self._index}_{name}"] = value
        self._meter(now, row.get(f"gpu{self._index}_power_watts"))
        return row

    def _meter(self, now: float, watts: float | None) -> None:
        counter = self._energy_counter()
        if counter is not None and self._first_counter is not None:
            self.joules = max(self.joules or 0.0, (counter - self._first_counter) / 1000)
        elif watts is not None:
            # GPUs before Volta count no energy: each reading of the power stands for the time since the one before.
            self.joules = (self.joules or 0.0) + watts * (now - self._time)
        self._time = now

    def _energy_counter(self) -> int | None:
        """Millijoules since the driver was loaded."""
        counter: int | None = self._supported(lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu))
        return counter

    def _supported(self, read: Callable[[Any, Any], Any]) -> Any:
        try:
            return read(self._nvml, self._handle)
        except self._nvml.NVMLError_NotSupported:
            return None
