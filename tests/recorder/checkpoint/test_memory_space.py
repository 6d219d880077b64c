from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from helpers.disks import small_disk

from recorder.checkpoint.memory_space import memory_space


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_the_file_system_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        space = memory_space(disk / "run" / "node")
        assert (space.file_system, space.free) == ("tmpfs", 256 * 1024)
        (disk / "file").write_bytes(bytes(64 * 1024))
        assert memory_space(disk).free == 192 * 1024
    assert memory_space(Path("/proc")).file_system in {"proc", None}


def test_without_limits_it_is_what_the_machine_has(tmp_path: Path) -> None:
    space = memory_space(tmp_path, tmp_path)
    assert space.total == psutil.virtual_memory().total
    assert 0 < space.available <= space.total


VERSION_2 = {
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/b/memory.max": "max\n",
    "sys/fs/cgroup/a/b/memory.current": "10\n",
    "sys/fs/cgroup/a/memory.max": "3000\n",
    "sys/fs/cgroup/a/memory.current": "2500\n",
    "sys/fs/cgroup/a/memory.stat": "anon 1000\ninactive_file 400\n",
}
VERSION_1_IN_A_CONTAINER = {
    "proc/self/cgroup": "4:cpu:/x\n3:memory:/docker/abc\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 96\n",
}


@pytest.mark.parametrize(
    ("files", "available", "total"), [(VERSION_2, 900, 3000), (VERSION_1_IN_A_CONTAINER, 3192, 4096)]
)
def test_a_control_group_may_leave_less(tmp_path: Path, files: dict[str, str], available: int, total: int) -> None:
    write(tmp_path, files)
    space = memory_space(tmp_path, tmp_path)
    assert (space.available, space.total) == (available, total)


def test_groups_that_do_not_limit(tmp_path: Path) -> None:
    unlimited = {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}
    write(tmp_path, VERSION_1_IN_A_CONTAINER | unlimited)
    assert memory_space(tmp_path, tmp_path).total == psutil.virtual_memory().total
    (tmp_path / "sys/fs/cgroup/memory/memory.usage_in_bytes").unlink()
    write(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n"})
    assert memory_space(tmp_path, tmp_path).total == psutil.virtual_memory().total
