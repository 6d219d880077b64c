"""Which part may import which, read from the source: arrows run one way, and what is heavy has a room of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

# Where a heavy package may be imported at all; a path that ends with a slash is a folder.
ROOMS = {
    "torch": ("recorder/checkpoint/", "recorder/capture/torch_build.py"),
    "numpy": ("recorder/checkpoint/",),
    "pyarrow": ("recorder/ledger/parquet.py", "recorder/release/"),
    "ray": (),
    "hydra": (),
    "omegaconf": (),
    "dvc": ("recorder/tracking/dvc_repository.py",),
    "dvc_data": ("recorder/tracking/dvc_repository.py",),
    "dvc_objects": ("recorder/tracking/dvc_repository.py",),
    "boto3": ("recorder/release/destinations/s3.py",),
    "botocore": ("recorder/release/destinations/s3.py",),
    "huggingface_hub": ("recorder/release/destinations/hub.py",),
    "model_signing": ("recorder/release/signing.py",),
    "cryptography": ("recorder/release/signature.py",),
    "transformers": (),
    "safetensors": (),
    "pydantic": (),
}
# What may be imported where the module itself is: whoever needs the module imports it when it is used.
AT_THE_TOP = {("recorder/ledger/parquet.py", "pyarrow")}

# Where training may know of Ray or Hydra at all.
TOUCHING = {
    "ray": (
        "train/launch/ray_process.py",
        "train/launch/ray_tables.py",
        "train/launch/bootstrap.py",
        "train/worker.py",
    ),
    "hydra": ("train/compose.py", "train/sweep.py", "train/model/"),
}

# What is built on: none of these knows how a run is launched, or that there is a command line.
FOUNDATIONS = ("config", "data", "model", "step", "optim", "sample", "training", "membership", "saving", "loop")
ABOVE = ("ancestors", "launch", "worker", "compose", "origin", "stage", "stages", "sweep")


@dataclass(frozen=True)
class Import:
    """One import: the dotted name, the function in which it happens, and whether it is for the type checker alone."""

    path: str
    name: str
    function: str | None
    typing: bool

    @property
    def lazy(self) -> bool:
        return self.function is not None

    @property
    def package(self) -> str:
        return self.name.split(".")[0]


class Collector(ast.NodeVisitor):
    def __init__(self, path: str) -> None:
        self.path = path
        self.found: list[Import] = []
        self._function: str | None = None
        self._typing = False

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        before, self._function = self._function, node.name
        self.generic_visit(node)
        self._function = before

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_If(self, node: ast.If) -> None:
        before, self._typing = self._typing, self._typing or "TYPE_CHECKING" in ast.unparse(node.test)
        self.generic_visit(node)
        self._typing = before

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(self.path, alias.name, self._function, self._typing) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.path} imports relatively"
        module = node.module or ""
        self.found += [
            Import(self.path, f"{module}.{alias.name}", self._function, self._typing) for alias in node.names
        ]


def imports_below(folder: str) -> list[Import]:
    found: list[Import] = []
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        collector = Collector(path.relative_to(REPOSITORY).as_posix())
        collector.visit(ast.parse(path.read_text()))
        found += collector.found
    assert found
    return found


def is_in(path: str, rooms: tuple[str, ...]) -> bool:
    return any(path.startswith(room) if room.endswith("/") else path == room for room in rooms)


def test_the_recorder_does_not_know_who_trains() -> None:
    assert [item for item in imports_below("recorder") if item.package in {"train", "tests", "benchmarks"}] == []


def test_heavy_packages_are_imported_in_their_rooms_when_they_are_used() -> None:
    heavy = [item for item in imports_below("recorder") if item.package in ROOMS and not item.typing]
    assert [item for item in heavy if not is_in(item.path, ROOMS[item.package])] == []
    assert [item for item in heavy if not item.lazy and (item.path, item.package) not in AT_THE_TOP] == []
    assert heavy, "the rooms are there for somebody"


def test_what_training_is_built_on_does_not_know_how_it_is_launched() -> None:
    above = tuple(f"train.{name}" for name in ABOVE)
    foundations = tuple(
        path for name in FOUNDATIONS for path in (f"train/{name}/", f"train/{name}.py") if (REPOSITORY / path).exists()
    )
    assert len(foundations) == len(FOUNDATIONS)
    wrong = [item for item in imports_below("train") if is_in(item.path, foundations) and item.name.startswith(above)]
    assert wrong == []


@pytest.mark.parametrize("room", ["data", "model", "step"])
def test_rooms_of_training_do_not_know_the_loop(room: str) -> None:
    loop = ("train.loop", "train.training", "train.sample", "train.saving", "train.membership")
    assert [item for item in imports_below(f"train/{room}") if item.name.startswith(loop)] == []


@pytest.mark.parametrize("package", TOUCHING)
def test_ray_and_hydra_are_touched_where_it_says_so(package: str) -> None:
    touching = [item for item in imports_below("train") if item.package == package]
    assert [item for item in touching if not is_in(item.path, TOUCHING[package])] == []
    assert touching, "the rooms are there for somebody"


def test_ray_is_imported_when_it_is_used() -> None:
    """The driver has modules of these rooms, and must live without Ray; in a worker only its entrance knows of it."""
    ray = [item for item in imports_below("train") if item.package == "ray"]
    assert [item for item in ray if not item.lazy] == []
    assert {item.function for item in ray if item.path == "train/worker.py"} == {"run_in_ray"}
    assert [
        item for folder in ("train", "recorder") for item in imports_below(folder) if item.name.startswith("ray.train")
    ] == []


def test_what_the_coordinator_decides_depends_on_its_inputs_alone() -> None:
    decides = ("train/membership/coordinator.py", "train/membership/messages.py", "train/membership/notices.py")
    names = {item.name for item in imports_below("train") if item.path in decides}
    ours = {name for name in names if name.startswith(("train.membership.", "train.step.quorum."))}
    allowed = {"__future__", "collections", "dataclasses", "enum", "json", "typing"}
    assert {name.split(".")[0] for name in names - ours} <= allowed


def test_launching_is_imported_by_the_worker_and_by_itself() -> None:
    wrong = [item for item in imports_below("train") if item.name.startswith("train.launch")]
    assert {item.path for item in wrong if not is_in(item.path, ("train/launch/",))} <= {"train/worker.py"}


def test_modules_are_named_for_what_they_own() -> None:
    names = {path.stem for folder in ("recorder", "train") for path in (REPOSITORY / folder).rglob("*.py")}
    assert not names & {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "tools"}


@pytest.mark.parametrize(
    "module", ["recorder.cli.main", "recorder.run", "recorder.worker", "recorder.bundle.verify", "recorder.recovery"]
)
def test_an_entrance_pulls_in_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    loaded = set(done.stdout.split())
    assert "recorder" in loaded
    assert not loaded & {*ROOMS, "train"}
