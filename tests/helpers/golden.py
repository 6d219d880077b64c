"""Makes the golden bundle of the current format: `python tests/helpers/golden.py FOLDER`, once for every new format.

A golden bundle is frozen when its format is released, and every later version must read and verify it. It holds what
a format has: several attempts, an earlier seal, redone steps, removed checkpoints, a lost worker, logs, system metrics,
numbers that are not finite, and text beyond ASCII. All its times are made up.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.bundles import RunBuilder

RUN_ID = "golden-1"


def make_golden(root: Path) -> Path:
    """The bundle below `root`."""
    builder = RunBuilder(root, RUN_ID).create().join().print("one", "zwei — deux")
    builder.run.writer.add_system_row({"cpu_percent": 12.5, "memory_used_bytes": 1e9})
    builder.ranks[0].log({"accuracy": math.nan, "norm": math.inf})
    builder.steps(1, 4).checkpoint(4).close("interrupted")
    builder.resume().restored(4).join().steps(5, 6).lose(1)
    builder.restored(4).join(membership=1).steps(5, 8).checkpoint(8).steps(9, 9).kill()
    builder.resume().restored(8).join().print("three")
    builder.run.writer.keep = 1
    builder.run.writer.add_system_row({"cpu_percent": math.nan, "memory_used_bytes": 2e9})
    builder.ranks[0].event("note", text="événement inconnu", value=-math.inf)
    return builder.steps(9, 12).checkpoint(12).finish(12).close()


def main(folder: Path) -> None:
    """Make the bundle somewhere else and copy it into `folder`, which must not hold one."""
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copytree(make_golden(Path(temporary) / "runs"), folder / RUN_ID)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
