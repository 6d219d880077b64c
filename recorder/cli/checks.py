"""What training and recording need of a machine, one check each."""

from __future__ import annotations

import locale
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from recorder.bundle.find import bundles, is_bundle
from recorder.bundle.state import OPEN, RUNNING, bundle_state
from recorder.cli.quantities import count, size

Status = Literal["ok", "warn", "fail"]

_PYTHON = (3, 11)
_GIGABYTE = 10**9
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^;\s]+)\s*(?:;\s*(?:extra == [\"']([^\"']+)[\"'])?)?.*")
# Where workers unpack the recorded source; beside the spools, and not one.
_SOURCE_CACHE = "source"
_RAY_PROCESSES = {"raylet", "gcs_server"}


@dataclass(frozen=True)
class Check:
    """One check: `fail` means that training cannot work here, `warn` that something is worth a look."""

    name: str
    status: Status
    found: str
    mend: str = ""


def all_checks(runs: Path, workers: int) -> list[Check]:
    """Every check, for runs in the folder `runs` with `workers` workers on this machine."""
    from recorder.run import spool_root

    spools = spool_root()
    return [
        check_python(sys.version_info[:3]),
        check_packages(_requirements(), _installed()),
        check_disk("runs", runs, warn_below=10 * _GIGABYTE, fail_below=_GIGABYTE),
        check_disk("spool", spools, warn_below=_GIGABYTE, fail_below=_GIGABYTE // 10),
        check_shared_memory(Path("/dev/shm")),
        check_processors(len(os.sched_getaffinity(0)), workers),
        check_gpus(),
        check_locale(locale.getpreferredencoding(False)),
        check_git(),
        check_open_runs(runs),
        check_spools(spools, runs),
        check_ray(_process_names()),
    ]


def check_python(version: tuple[int, ...]) -> Check:
    """The interpreter is the one that the pins are for."""
    found, wanted = ".".join(map(str, version)), ".".join(map(str, _PYTHON))
    if version[:2] == _PYTHON:
        return Check("python", "ok", found)
    return Check("python", "fail", f"{found}, wanted is {wanted}", f"install Python {wanted} and run make setup")


def check_packages(requirements: Iterable[str], installed: Mapping[str, str]) -> Check:
    """What reads bundles and what trains is installed, in the pinned versions."""
    missing, other = [], []
    pins = [match for match in map(_REQUIREMENT.fullmatch, requirements) if match and match[3] in (None, "train")]
    for match in pins:
        name, wanted = match[1].lower().replace("_", "-"), match[2]
        if name not in installed:
            missing.append(name)
        elif installed[name].partition("+")[0] != wanted:
            other.append(f"{name} {installed[name]} instead of {wanted}")
    if missing:
        return Check("packages", "fail", f"not installed: {', '.join(missing)}", "run make setup")
    if other:
        return Check("packages", "warn", "; ".join(other), "run make setup for the versions that were tested")
    if not pins:
        return Check("packages", "warn", "run-recorder is not installed, so its pins are not known", "run make setup")
    return Check("packages", "ok", f"{len(pins)} as pinned")


def check_disk(name: str, folder: Path, warn_below: int, fail_below: int) -> Check:
    """There is room where `folder` is, or will be."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{size(free)} free in {existing}"
    if not os.access(existing, os.W_OK):
        return Check(name, "fail", f"{existing} is not writable", "make it writable, or choose another folder")
    if free >= warn_below:
        return Check(name, "ok", found)
    return Check(name, "fail" if free < fail_below else "warn", found, "free some space, or choose another folder")


def check_shared_memory(folder: Path) -> Check:
    """Ray's object store has shared memory; without it Ray uses the disk."""
    if not folder.is_dir():
        return Check("memory", "warn", f"there is no {folder}: Ray's object store will be on the disk")
    total = shutil.disk_usage(folder).total
    if total < _GIGABYTE // 2:
        return Check("memory", "warn", f"{folder} has {size(total)}", "in a container: docker run --shm-size=1g")
    return Check("memory", "ok", f"{folder} has {size(total)}")


def check_processors(available: int, workers: int) -> Check:
    """There is a core for every worker."""
    found = f"{count(available, 'core')} for {count(workers, 'worker')}"
    if available >= workers:
        return Check("cores", "ok", found)
    return Check("cores", "warn", f"{found}: they will share", f"train with cluster.workers={available}")


def check_gpus() -> Check:
    """The GPUs can be asked, if there are any."""
    from recorder.capture.gpu import capture_gpus

    found = capture_gpus()
    if found["problem"]:
        return Check("gpu", "warn", found["problem"], "pip install 'run-recorder[gpu]', and check the driver")
    if not found["devices"]:
        return Check("gpu", "ok", "none; workers compute on the CPU")
    return Check("gpu", "ok", f"{', '.join(device['name'] for device in found['devices'])}, driver {found['driver']}")


def check_locale(encoding: str) -> Check:
    """Text is UTF-8."""
    if encoding.lower().replace("-", "") == "utf8":
        return Check("locale", "ok", encoding)
    return Check("locale", "warn", f"{encoding}: logs and names may be garbled", "export LANG=C.UTF-8")


def check_git() -> Check:
    """git is there to tell which commit runs."""
    if shutil.which("git") is None:
        return Check("git", "warn", "not installed: runs are recorded without their commit", "install git")
    version = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Check("git", "ok", version.removeprefix("git version "))


def check_open_runs(runs: Path) -> Check:
    """Every run that no process writes any more is sealed."""
    states = {path.name: bundle_state(path) for path in bundles(runs)}
    left = [name for name, state in states.items() if state == OPEN]
    if not left:
        return Check("runs", "ok", f"{count(len(states), 'run')} in {runs}, none left open")
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    return Check("runs", "warn", f"left open: {left[0]}{more}", f"python train.py run.resume={left[0]}")


def check_spools(spools: Path, runs: Path) -> Check:
    """No records wait in the spool folder for a run that will not collect them."""
    waiting = [path for path in sorted(spools.glob("*")) if path.is_dir() and path.name != _SOURCE_CACHE]
    lost = [path for path in waiting if not is_bundle(runs / path.name)]
    resumable = [path for path in waiting if path not in lost and bundle_state(runs / path.name) != RUNNING]
    if lost:
        found = f"records in {lost[0]} belong to no run in {runs}"
        return Check("records", "warn", found, "name the folder of the run with --runs; delete them if the run is gone")
    if resumable:
        run = resumable[0].name
        return Check("records", "warn", f"records of {run} wait in {spools}", f"python train.py run.resume={run}")
    return Check("records", "ok", f"none left over in {spools}")


def check_ray(processes: Mapping[int, str]) -> Check:
    """No Ray cluster is left over from a run that was killed."""
    left = sorted(pid for pid, name in processes.items() if name in _RAY_PROCESSES)
    if not left:
        return Check("ray", "ok", "no cluster is up on this machine")
    found = f"a cluster is up (process {', '.join(map(str, left))})"
    return Check("ray", "warn", found, "fine if you mean to use it or a run is going on; if not: ray stop")


def _requirements() -> list[str]:
    try:
        return metadata.requires("run-recorder") or []
    except metadata.PackageNotFoundError:
        return []


def _installed() -> dict[str, str]:
    found = ((dist.metadata["Name"], dist.version) for dist in metadata.distributions())
    return {name.lower().replace("_", "-"): version for name, version in found if name}


def _process_names() -> dict[int, str]:
    import psutil

    return {process.pid: process.info["name"] or "" for process in psutil.process_iter(["name"])}
