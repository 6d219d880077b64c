"""How much a node's memory can still take: a file system, the machine, and the control groups of a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

# Version 1 writes "no limit" as the largest multiple of a page that fits into 63 bits.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class MemorySpace:
    """Sizes in bytes. `file_system` is the type of the folder's file system, None where it cannot be known.

    `free` is what may still be written there; `available` is what the process may still use of `total` memory.
    """

    file_system: str | None
    free: int
    available: int
    total: int


def memory_space(folder: Path, root: Path = Path("/")) -> MemorySpace:
    """The space for `folder`, which need not exist yet. Raises OSError.

    `available` is the kernel's MemAvailable or, where a control group on the way up leaves less, its limit less what
    it uses; its page cache that is not in use counts as free, as for the kernel. `root` is where `proc` and `sys` are.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    disk, memory = os.statvfs(existing), psutil.virtual_memory()
    groups = list(_groups(root))
    return MemorySpace(
        file_system=_file_system(existing),
        free=disk.f_bavail * disk.f_frsize,
        available=min([memory.available, *(limit - used for limit, used in groups)]),
        total=min([memory.total, *(limit for limit, _ in groups)]),
    )


def _file_system(path: Path) -> str | None:
    """The type of the file system that holds `path`, from /proc/self/mountinfo (proc(5))."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            return source.split()[0]
    return None


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group of the process that limits memory."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        # In a container the path may be the host's; its folders are then missing, and the mount is the limit.
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount) and (found := _limit_and_use(folder)):
                yield found


def _limit_and_use(group: Path) -> tuple[int, int] | None:
    limit = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
    used = _text(group / "memory.current") or _text(group / "memory.usage_in_bytes")
    if not (limit.isdigit() and used.isdigit()) or int(limit) >= _NO_LIMIT:
        return None
    counters = dict(line.split() for line in _text(group / "memory.stat").splitlines())
    cache = counters.get("total_inactive_file") or counters.get("inactive_file") or "0"
    return int(limit), int(used) - int(cache)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
