import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from recorder.canonical import canonical_json
from recorder.capture.container import capture_container
from recorder.capture.cpu import capture_cpu, first_processor, identity
from recorder.capture.gpu import capture_gpus
from recorder.capture.limits import capture_limits
from recorder.capture.nvml import open_nvml
from recorder.capture.system import capture_system
from recorder.capture.variables import capture_variables, numerical_overrides


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_this_machine(tmp_path):
    system = capture_system({"OMP_NUM_THREADS": "1", "SHELL": "x", "RAY_ODD": "\udcff"}, tmp_path)
    assert system["environment"] == {"OMP_NUM_THREADS": "1", "RAY_ODD": "\\udcff"}
    assert system["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert system["disk"]["total_bytes"] >= system["disk"]["free_bytes"] > 0
    assert system["memory_bytes"] > 0
    assert system["os"]["kernel"] == os.uname().release
    canonical_json(system)


def test_a_storage_that_is_not_there_is_unknown(tmp_path):
    assert capture_system({}, tmp_path / "missing")["disk"] is None


def test_capture_loads_no_training_library():
    code = (
        "import os, sys\n"
        "import recorder.capture.system, recorder.capture.packages, recorder.capture.source\n"
        "import recorder.capture.determinism, recorder.capture.torch_build, recorder.nodes.system_metrics\n"
        "recorder.capture.system.capture_system(os.environ); recorder.capture.packages.capture_packages()\n"
        "print([name for name in ('torch', 'ray', 'hydra', 'dvc', 'pyarrow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


class TestCpu:
    def test_x86(self, tmp_path):
        text = (
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"
            "flags\t\t: fpu smep fma avx2 avx512f amx_tile sse4_2\nbugs\t\t: a\n\nprocessor\t: 1\nmodel name\t: Other\n"
        )
        write(tmp_path, {"proc/cpuinfo": text})
        cpu = capture_cpu(tmp_path)
        assert cpu["model"] == "AMD EPYC"
        assert cpu["identity"] == "AuthenticAMD family 25 model 17"
        assert cpu["isa"] == ["amx_tile", "avx2", "avx512f", "fma", "sse4_2"]

    def test_flags_digest_is_of_all_flags_in_any_order(self, tmp_path):
        digests = []
        for number, flags in enumerate(["fpu fma", "fma fpu", "fma fpu smep"]):
            write(tmp_path / str(number), {"proc/cpuinfo": f"flags : {flags}\n"})
            digests.append(capture_cpu(tmp_path / str(number))["flags_digest"])
        assert digests[0] == digests[1] != digests[2]

    def test_arm(self):
        text = "processor\t: 0\nFeatures\t: fp asimd sve bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n"
        assert identity(first_processor(text)) == "implementer 0x41 part 0xd4f"

    def test_without_proc(self, tmp_path):
        cpu = capture_cpu(tmp_path)
        assert (cpu["identity"], cpu["isa"], cpu["flags_digest"]) == (None, [], None)


class TestLimits:
    def test_version_2_smallest_on_the_way_up(self, tmp_path):
        files = {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/b/memory.max": "2000\n",
            "sys/fs/cgroup/a/memory.max": "3000\n",
        }
        write(tmp_path, files)
        limits = capture_limits(tmp_path)
        assert (limits["cpus"], limits["memory_bytes"]) == (1.5, 2000)

    def test_version_1_seen_from_a_container(self, tmp_path):
        files = {
            "proc/self/cgroup": "4:cpuacct,cpu:/docker/abc\n3:memory:/docker/abc\n2:pids:/x:y\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n",
        }
        write(tmp_path, files)
        limits = capture_limits(tmp_path)
        assert (limits["cpus"], limits["memory_bytes"]) == (0.5, 4096)

    def test_no_limit(self, tmp_path):
        files = {
            "proc/self/cgroup": "4:cpu:/\n3:memory:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        }
        write(tmp_path, files)
        for root in (tmp_path, tmp_path / "missing"):
            limits = capture_limits(root)
            assert (limits["cpus"], limits["memory_bytes"]) == (None, None)


class TestContainer:
    DIGEST = "sha256:" + "0a" * 32

    def test_none(self, tmp_path):
        write(tmp_path, {"proc/self/cgroup": "0::/user.slice\n", "proc/self/mountinfo": "27 1 254:0 / / rw\n"})
        assert set(capture_container({}, tmp_path).values()) == {None}

    @pytest.mark.parametrize(
        ("files", "environ", "kind"),
        [
            ({".dockerenv": ""}, {}, "docker"),
            ({"run/.containerenv": ""}, {}, "podman"),
            ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "x"}, "kubernetes"),
            ({}, {"APPTAINER_NAME": "x"}, "apptainer"),
            ({"proc/self/cgroup": "0::/kubepods/x\n"}, {}, "kubernetes"),
            ({"proc/self/mountinfo": "1 2 / /var/lib/docker/containers/x/hostname\n"}, {}, "docker"),
        ],
    )
    def test_kind(self, tmp_path, files, environ, kind):
        write(tmp_path, files)
        container = capture_container(environ, tmp_path)
        assert container["kind"] == kind
        assert (container["image"], container["image_digest"]) == (None, None)

    @pytest.mark.parametrize(
        ("environ", "image"),
        [
            ({"CONTAINER_IMAGE_DIGEST": DIGEST}, None),
            ({"CONTAINER_IMAGE": f"example.org/a@{DIGEST}"}, f"example.org/a@{DIGEST}"),
            ({"CONTAINER_IMAGE": f"a:1@{DIGEST}"}, f"a:1@{DIGEST}"),
            ({"CONTAINER_IMAGE": "docker://me:" + f"word@example.org/a@{DIGEST}"}, f"docker://example.org/a@{DIGEST}"),
        ],
    )
    def test_digest_that_was_passed_on(self, tmp_path, environ, image):
        container = capture_container(environ, tmp_path)
        assert (container["image"], container["image_digest"]) == (image, self.DIGEST)

    def test_what_is_no_digest_is_not_one(self, tmp_path):
        container = capture_container({"IMAGE_DIGEST": "latest", "CONTAINER_IMAGE": "a:1"}, tmp_path)
        assert (container["image"], container["image_digest"]) == ("a:1", None)

    def test_podman_states_its_image(self, tmp_path):
        write(tmp_path, {"run/.containerenv": 'engine="podman-4"\nimage="example.org/a:1"\nimageid="abc"\n'})
        container = capture_container({}, tmp_path)
        assert (container["image"], container["image_id"], container["image_digest"]) == (
            "example.org/a:1",
            "abc",
            None,
        )


class NvmlError(Exception):
    pass


def fake_nvml(**replaced):
    functions = {
        "NVMLError": NvmlError,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlSystemGetCudaDriverVersion": lambda: 13010,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetName": lambda handle: "H",
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=80, used=1),
    }
    return SimpleNamespace(**(functions | replaced))


class TestGpus:
    def test_devices_and_driver(self):
        shut = []
        nvml = fake_nvml(nvmlShutdown=lambda: shut.append(True))
        gpus = capture_gpus(lambda: (nvml, None))
        device = {"name": "H", "memory_bytes": 80, "compute_capability": "9.0"}
        assert gpus == {
            "devices": [{"index": 0, "uuid": "GPU-0", **device}, {"index": 1, "uuid": "GPU-1", **device}],
            "driver": "580.1",
            "cuda_driver": "13.1",
            "problem": None,
        }
        assert shut == [True]

    def test_no_driver_means_no_gpus(self):
        assert capture_gpus(lambda: (None, None))["devices"] == []

    def test_driver_that_cannot_be_asked_means_unknown(self):
        gpus = capture_gpus(lambda: (None, "nvidia-ml-py is not installed"))
        assert (gpus["devices"], gpus["problem"]) == (None, "nvidia-ml-py is not installed")

    def test_failing_library_is_a_problem_not_an_error(self):
        def fail(handle):
            raise NvmlError("GPU is lost")

        gpus = capture_gpus(lambda: (fake_nvml(nvmlDeviceGetUUID=fail), None))
        assert (gpus["devices"], gpus["problem"]) == (None, "NVML: GPU is lost")

    def test_opening(self, monkeypatch, tmp_path):
        def init():
            raise NvmlError("Driver Not Loaded")

        driver = tmp_path / "version"
        monkeypatch.setitem(sys.modules, "pynvml", None)
        assert open_nvml(driver) == (None, None)
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlInit=init))
        assert open_nvml(driver) == (None, None)
        driver.write_text("x")
        assert open_nvml(driver) == (None, "NVML: Driver Not Loaded")
        monkeypatch.setitem(sys.modules, "pynvml", None)
        assert open_nvml(driver) == (None, "nvidia-ml-py is not installed")
        nvml = fake_nvml(nvmlInit=lambda: None)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        assert open_nvml(driver) == (nvml, None)


class TestVariables:
    def test_only_listed_ones(self):
        environ = {"OMP_NUM_THREADS": "2", "LC_ALL": "C", "HOME": "x", "PYTHONHASHSEED": "0", "XOMP_A": "1"}
        assert capture_variables(environ) == {"LC_ALL": "C", "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0"}

    @pytest.mark.parametrize("part", ["TOKEN", "SECRET", "KEY", "PASSWORD", "PASSWD", "CREDENTIALS", "AUTH", "COOKIE"])
    def test_secret_names_lose_their_value(self, part):
        assert capture_variables({f"RAY_{part}_X": "value"}) == {f"RAY_{part}_X": None}

    def test_values_that_may_carry_secrets(self):
        inner = json.dumps({"env_vars": {"A": "b"}})
        environ = {
            "RAY_JOB_CONFIG_JSON_ENV_VAR": inner,
            "RAY_LONG": "x" * 2000,
            "RAY_ADDRESS": "ray://me:" + "word@example.org:10001",
            "TOKENIZERS_PARALLELISM": "false",
        }
        assert capture_variables(environ) == {
            "RAY_ADDRESS": "ray://example.org:10001",
            "RAY_JOB_CONFIG_JSON_ENV_VAR": None,
            "RAY_LONG": None,
            "TOKENIZERS_PARALLELISM": "false",
        }

    def test_numerical_overrides(self):
        captured = capture_variables({"DNNL_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "2"})
        assert numerical_overrides(captured) == {"DNNL_MAX_CPU_ISA": "AVX2"}
