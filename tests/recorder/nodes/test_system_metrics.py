import math
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from recorder.nodes import system_metrics
from recorder.nodes.system_metrics import SystemSampler


class NvmlError(Exception):
    pass


class NotSupportedError(NvmlError):
    pass


class FakeNvml(SimpleNamespace):
    """GPUs whose readings a test sets; a reading that is an exception is raised."""

    def __init__(self, *gpus: dict) -> None:
        self.gpus = [
            {"load": 50, "used": 1000, "milliwatts": 2000, "celsius": 40, "energy": 7000} | gpu for gpu in gpus
        ]
        self.asked = []
        self.open = True
        super().__init__(
            NVMLError=NvmlError,
            NVMLError_NotSupported=NotSupportedError,
            NVML_TEMPERATURE_GPU=0,
            nvmlDeviceGetCount=lambda: len(self.gpus),
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetUtilizationRates=lambda gpu: SimpleNamespace(gpu=self._read(gpu, "load")),
            nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=self._read(gpu, "used")),
            nvmlDeviceGetPowerUsage=lambda gpu: self._read(gpu, "milliwatts"),
            nvmlDeviceGetTemperature=lambda gpu, sensor: self._read(gpu, "celsius"),
            nvmlDeviceGetTotalEnergyConsumption=lambda gpu: self._read(gpu, "energy"),
            nvmlShutdown=lambda: setattr(self, "open", False),
        )

    def _read(self, gpu, name):
        self.asked.append((gpu, name))
        value = self.gpus[gpu][name]
        if isinstance(value, Exception):
            raise value
        return value


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def errors():
    return []


@pytest.fixture
def make(tmp_path, clock, errors):
    def sampler(nvml=None, problem=None, storage=tmp_path):
        return SystemSampler(storage, errors.append, clock, lambda: (nvml, problem))

    return sampler


class Times(NamedTuple):
    user: float = 0.0
    system: float = 0.0
    idle: float = 0.0
    iowait: float = 0.0
    guest: float = 0.0
    guest_nice: float = 0.0


@pytest.fixture
def machine(monkeypatch):
    """A machine whose counters a test sets."""
    state = SimpleNamespace(
        times=Times(),
        disk=SimpleNamespace(read_bytes=1000, write_bytes=2000),
        network=SimpleNamespace(bytes_sent=10, bytes_recv=20),
    )
    monkeypatch.setattr(system_metrics.psutil, "cpu_times", lambda: state.times)
    monkeypatch.setattr(system_metrics.psutil, "disk_io_counters", lambda nowrap: state.disk)
    monkeypatch.setattr(system_metrics.psutil, "net_io_counters", lambda nowrap: state.network)
    return state


class TestMachine:
    def test_this_machine_has_every_column_as_a_plain_float(self, make, clock):
        sampler = make()
        clock.now += 1
        row = sampler.sample()
        assert row.keys() >= {"cpu_percent", "memory_used_bytes", "memory_percent", "disk_free_bytes", "load_1m"}
        assert all(type(value) is float for value in row.values())
        assert row["memory_used_bytes"] > 0
        assert not any("gpu" in name for name in row)

    def test_rates_are_since_the_sample_before(self, make, clock, machine):
        sampler = make()
        clock.now += 2
        machine.disk = SimpleNamespace(read_bytes=1100, write_bytes=2600)
        machine.network = SimpleNamespace(bytes_sent=30, bytes_recv=60)
        row = sampler.sample()
        assert (row["disk_read_bytes_per_s"], row["disk_write_bytes_per_s"]) == (50, 300)
        assert (row["network_sent_bytes_per_s"], row["network_received_bytes_per_s"]) == (10, 20)
        clock.now += 4
        machine.disk = SimpleNamespace(read_bytes=1500, write_bytes=2600)
        row = sampler.sample()
        assert (row["disk_read_bytes_per_s"], row["disk_write_bytes_per_s"]) == (100, 0)

    def test_processor_share_without_idling_waiting_and_guests_counted_twice(self, make, machine):
        sampler = make()
        machine.times = Times(user=3, system=1, idle=5, iowait=1, guest=2)
        assert sampler.sample()["cpu_percent"] == 40
        machine.times = machine.times._replace(user=4)
        assert sampler.sample()["cpu_percent"] == 100

    def test_no_time_has_passed(self, make, machine):
        row = make().sample()
        assert math.isnan(row["cpu_percent"])
        assert math.isnan(row["disk_read_bytes_per_s"])

    def test_counter_that_goes_back_is_no_negative_rate(self, make, clock, machine):
        sampler = make()
        clock.now += 1
        machine.disk = SimpleNamespace(read_bytes=0, write_bytes=2001)
        row = sampler.sample()
        assert (row["disk_read_bytes_per_s"], row["disk_write_bytes_per_s"]) == (0, 1)

    def test_what_the_machine_does_not_tell_is_no_column(self, make, clock, machine, tmp_path):
        machine.disk = None
        machine.network = None
        sampler = make(storage=tmp_path / "missing")
        clock.now += 1
        assert sampler.sample().keys() == {"cpu_percent", "memory_used_bytes", "memory_percent", "load_1m"}

    def test_psutil_state_of_others_is_left_alone(self, make, monkeypatch):
        def forbidden(*arguments, **options):
            raise AssertionError("this would change what others in the process read")

        monkeypatch.setattr(system_metrics.psutil, "cpu_percent", forbidden)
        monkeypatch.setattr(system_metrics.psutil, "cpu_times_percent", forbidden)
        make().sample()


class TestGpus:
    def test_columns_and_units(self, make):
        nvml = FakeNvml({}, {"load": 100, "milliwatts": 300_500})
        row = make(nvml).sample()
        gpus = {name: value for name, value in row.items() if "gpu" in name}
        assert gpus == {
            "gpu0_utilisation_percent": 50,
            "gpu0_memory_used_bytes": 1000,
            "gpu0_power_watts": 2,
            "gpu0_temperature_c": 40,
            "gpu1_utilisation_percent": 100,
            "gpu1_memory_used_bytes": 1000,
            "gpu1_power_watts": 300.5,
            "gpu1_temperature_c": 40,
            "gpu_energy_joules": 0,
        }

    def test_energy_is_what_the_counters_rose_since_the_start(self, make):
        nvml = FakeNvml({"energy": 7000}, {"energy": 0})
        sampler = make(nvml)
        nvml.gpus[0]["energy"], nvml.gpus[1]["energy"] = 9000, 500
        assert sampler.sample()["gpu_energy_joules"] == 2.5
        nvml.gpus[0]["energy"] = 10_000
        assert sampler.sample()["gpu_energy_joules"] == 3.5
        nvml.gpus[0]["energy"] = 0
        assert sampler.sample()["gpu_energy_joules"] == 3.5

    def test_energy_is_integrated_from_power_without_a_counter(self, make, clock):
        nvml = FakeNvml({"energy": NotSupportedError(), "milliwatts": 100_000})
        sampler = make(nvml)
        clock.now += 2
        assert sampler.sample()["gpu_energy_joules"] == 200
        clock.now += 3
        nvml.gpus[0]["milliwatts"] = 50_000
        assert sampler.sample()["gpu_energy_joules"] == 350

    def test_reading_that_a_model_does_not_support_is_no_column(self, make, errors):
        nvml = FakeNvml({"load": NotSupportedError(), "milliwatts": NotSupportedError(), "energy": NotSupportedError()})
        row = make(nvml).sample()
        assert {name for name in row if "gpu" in name} == {"gpu0_memory_used_bytes", "gpu0_temperature_c"}
        assert errors == []

    def test_failing_gpu_is_reported_once_and_the_others_go_on(self, make, errors):
        nvml = FakeNvml({}, {})
        sampler = make(nvml)
        nvml.gpus[0]["energy"] = 8000
        sampler.sample()
        nvml.gpus[0]["celsius"] = NvmlError("GPU is lost")
        nvml.gpus[1]["energy"] = 9000
        nvml.asked.clear()
        rows = [sampler.sample(), sampler.sample()]
        assert errors == ["GPU 0 is not sampled any more: NVML: GPU is lost"]
        for row in rows:
            assert not any(name.startswith("gpu0") for name in row)
            assert row["gpu1_temperature_c"] == 40
            assert row["gpu_energy_joules"] == 3
        assert nvml.asked.count((0, "celsius")) == 1

    def test_gpu_that_fails_at_the_start(self, make, errors):
        row = make(FakeNvml({"energy": NvmlError("GPU is lost")}, {})).sample()
        assert len(errors) == 1
        assert "gpu1_power_watts" in row

    def test_library_that_cannot_be_asked_is_reported(self, make, errors):
        make(None, "nvidia-ml-py is not installed").sample()
        assert errors == ["GPUs are not sampled: nvidia-ml-py is not installed"]

    def test_close(self, make):
        nvml = FakeNvml({})
        make(nvml).close()
        assert nvml.open is False
        make().close()
