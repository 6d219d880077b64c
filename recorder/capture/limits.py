"""What the process may use of the machine: Linux control groups and CPU affinity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Version 1 writes "no limit" as the largest multiple of a page that fits into 63 bits.
_NO_LIMIT = 1 << 60


def capture_limits(root: Path = Path("/")) -> dict[str, Any]:
    """CPUs (a fraction is possible) and memory in bytes granted by control groups, null without a limit.

    The smallest limit on the way up from the process's own group counts. `affinity` is the number of CPUs it may be
    scheduled on, null where the system has no such notion. `root` is where `proc` and `sys` are.
    """
    return {
        "cpus": min(_cpu_limits(root), default=None),
        "memory_bytes": min(_memory_limits(root), default=None),
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def _cpu_limits(root: Path) -> Iterator[float]:
    for group in _groups(root, "cpu"):
        version_1 = f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
        quota, _, period = (_text(group / "cpu.max") or version_1).partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[int]:
    for group in _groups(root, "memory"):
        limit = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
        if limit.isdigit() and int(limit) < _NO_LIMIT:
            yield int(limit)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's group and those above it, in both versions of control groups."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if controllers:
            if controller not in controllers.split(","):
                continue
            mount /= controller
        # In a container the path may be the host's; its folders are then missing, and the mount is the limit.
        group = mount / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
