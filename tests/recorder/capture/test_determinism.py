import copy

import pytest

from recorder.capture.determinism import determinism_class, explain_difference
from recorder.capture.differences import node_differences
from recorder.capture.packages import capture_packages
from recorder.capture.system import capture_system

TORCH = {
    "version": "2.13.0+cpu",
    "git_version": "abc",
    "cpu_capability": "AVX512",
    "threads": 1,
    "gpus": [{"name": "B", "compute_capability": "9.0"}, {"name": "A", "compute_capability": "8.0"}] * 2,
    "libraries": {
        "mkl": "2024.2",
        "onednn": "3.12.0",
        "blas": "mkl",
        "lapack": "mkl",
        "openmp": "201511",
        "cuda": "13.0",
        "hip": None,
        "cudnn": "91002",
        "nccl": "2.27.5",
    },
}
SETTINGS = {"device": "cpu", "threads": 1, "precision": "fp32", "compile": False}


@pytest.fixture(scope="module")
def system():
    system = capture_system({"OMP_NUM_THREADS": "1", "MKL_CBWR": "AVX2"})
    system["cpu"] |= {"model": "AMD EPYC", "identity": "family 25", "isa": ["avx2", "avx512f"]}
    return system


def changed(value, path, new):
    value = copy.deepcopy(value)
    *parents, last = path.split(".")
    inner = value
    for key in parents:
        inner = inner[key]
    inner[last] = new
    return value


class TestClass:
    def test_what_a_cpu_run_depends_on(self, system):
        found = determinism_class(system, TORCH, **SETTINGS)
        assert list(found) == [
            *("device", "device_model", "isa", "torch", "libraries", "overrides", "threads", "precision", "compile"),
            "id",
        ]
        assert found["device_model"] == ["AMD EPYC family 25"]
        assert found["isa"] == ["AVX512", "avx2", "avx512f"]
        assert found["overrides"] == {"MKL_CBWR": "AVX2"}
        assert len(found["id"]) == 16

    def test_what_a_gpu_run_depends_on(self, system):
        found = determinism_class(system, TORCH, **SETTINGS | {"device": "cuda"})
        assert (found["device_model"], found["isa"]) == (["A", "B"], ["8.0", "9.0"])
        assert found["libraries"]["cudnn"] == "91002"

    @pytest.mark.parametrize(
        "change", [{"threads": 2}, {"precision": "bf16"}, {"compile": True}, {"device": "cuda"}], ids=str
    )
    def test_settings_change_the_id(self, system, change):
        first, second = (determinism_class(system, TORCH, **SETTINGS | other) for other in ({}, change))
        assert first["id"] != second["id"]

    @pytest.mark.parametrize(
        ("path", "new", "line"),
        [
            ("version", "2.12.0", "torch: 2.13.0+cpu, 2.12.0"),
            ("libraries.onednn", None, "libraries.onednn: 3.12.0, none"),
            ("cpu_capability", "AVX2", "isa: AVX512, AVX2"),
        ],
    )
    def test_torch_changes_the_id_and_is_explained(self, system, path, new, line):
        first = determinism_class(system, TORCH, **SETTINGS)
        second = determinism_class(system, changed(TORCH, path, new), **SETTINGS)
        assert first["id"] != second["id"]
        assert explain_difference(first, second) == [line]

    @pytest.mark.parametrize(
        ("path", "new", "line"),
        [
            ("cpu.model", "Xeon", "device_model: AMD EPYC family 25, Xeon family 25"),
            ("cpu.isa", ["avx2"], "isa: avx512f, nothing else"),
            ("environment", {}, "overrides.MKL_CBWR: AVX2, none"),
        ],
    )
    def test_machine_changes_the_id_and_is_explained(self, system, path, new, line):
        first = determinism_class(system, TORCH, **SETTINGS)
        second = determinism_class(changed(system, path, new), TORCH, **SETTINGS)
        assert first["id"] != second["id"]
        assert explain_difference(first, second) == [line]

    @pytest.mark.parametrize(
        ("path", "new"), [("hostname", "other"), ("memory_bytes", 1), ("os.kernel", "1.0"), ("cpu.logical_cores", 99)]
    )
    def test_the_rest_of_the_machine_does_not(self, system, path, new):
        first = determinism_class(system, TORCH, **SETTINGS)
        second = determinism_class(changed(system, path, new), TORCH, **SETTINGS)
        assert first == second
        assert explain_difference(first, second) == []

    def test_gpu_libraries_do_not_matter_on_a_cpu(self, system):
        other = changed(TORCH, "libraries.cudnn", None)
        assert determinism_class(system, TORCH, **SETTINGS) == determinism_class(system, other, **SETTINGS)

    def test_torch_facts_fit(self, system):
        pytest.importorskip("torch")
        from recorder.capture.torch_build import torch_facts

        facts = torch_facts()
        import torch

        assert facts["version"] == torch.__version__
        assert type(facts["version"]) is str
        assert facts["threads"] == torch.get_num_threads()
        assert facts.keys() >= TORCH.keys()
        assert facts["libraries"].keys() == TORCH["libraries"].keys()
        assert facts["libraries"]["blas"]
        assert determinism_class(system, facts, **SETTINGS)["torch"] == torch.__version__


@pytest.fixture(scope="module")
def node(system):
    return {"system": system, "packages": capture_packages(), "torch": TORCH}


class TestNodeDifferences:
    def test_none(self, node):
        other = copy.deepcopy(node)
        other["system"] |= {"hostname": "other", "memory_bytes": 1, "disk": None, "limits": {}, "clock": {}}
        assert node_differences(node, other) == []

    @pytest.mark.parametrize(
        ("path", "new", "name"),
        [
            ("system.python.version", "3.12.0", "python.version"),
            ("system.os.kernel", "1.0", "os.kernel"),
            ("system.cpu.model", "Xeon", "cpu.model"),
            ("system.gpu.driver", "580.1", "gpu.driver"),
            ("system.gpu.devices", [{"name": "H"}, {"name": "H"}], "gpu.devices.H"),
            ("system.environment", {}, "environment.MKL_CBWR"),
            ("torch.version", "2.12.0", "version"),
            ("torch.libraries.cudnn", "1", "libraries.cudnn"),
        ],
    )
    def test_machine_and_torch(self, node, path, new, name):
        (found,) = node_differences(node, changed(node, path, new))
        assert (found["kind"], found["name"]) == (path.split(".")[0], name)
        assert found["reference"] != found["other"]

    def test_packages(self, node):
        def package(name, version, commit=None):
            origin = {"commit": commit} if commit else None
            return {"name": name, "version": version, "editable": False, "origin": origin}

        first = [package("a", "1"), package("b", "1"), package("same", "1"), package("v", "1", "abc")]
        second = [package("b", "2"), package("c", "1"), package("same", "1"), package("v", "1", "def")]
        found = node_differences({"packages": {"packages": first}}, {"packages": {"packages": second}})
        assert [(line["kind"], line["name"], line["reference"], line["other"]) for line in found] == [
            ("package", "a", "1", None),
            ("package", "b", "1", "2"),
            ("package", "c", None, "1"),
            ("package", "v", "1 at abc", "1 at def"),
        ]

    def test_a_part_that_one_lacks_is_not_compared(self, node):
        assert node_differences(node, {"torch": None}) == []
