"""`make chaos N=300` plays the schedules of N seeds, one after the other, and stops at the first that goes wrong.

Each seed is printed before it is played: of the process that hangs or dies in it, too, one knows what to play again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
# As pytest has it. Helper libraries must not compute with threads of their own.
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parents[1])]
os.environ["OMP_NUM_THREADS"] = "1"

from chaos_checks import check, describe  # noqa: E402
from chaos_run import Played, Stage  # noqa: E402
from chaos_schedule import Schedule, schedule  # noqa: E402
from fork_launcher import ForkServer  # noqa: E402


def main() -> int:
    """Play; 0 when all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1, help="how many schedules")
    parser.add_argument("--seed", type=int, help="the first seed; random when left out")
    options = parser.parse_args()
    first = secrets.randbelow(10**6) if options.seed is None else options.seed
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    server = ForkServer()
    try:
        stage, undisturbed = Stage(root, server), dict[Schedule, Played]()
        for seed in range(first, first + options.count):
            if not _play(stage, undisturbed, seed, verbose=options.count == 1):
                say(f"seed {seed} failed; its bundle is below {root}; play it again with: make chaos SEED={seed}")
                return 1
    finally:
        server.close()
    shutil.rmtree(root)
    say(f"all went well: seeds {first} to {first + options.count - 1}")
    return 0


def _play(stage: Stage, undisturbed: dict[Schedule, Played], seed: int, verbose: bool) -> bool:
    """Play one schedule, and say how it went; whether all is well."""
    plan, began = schedule(seed), time.monotonic()
    say(f"seed {seed}: {plan}")
    driver = io.StringIO()
    try:
        with contextlib.redirect_stdout(driver):
            if plan.undisturbed not in undisturbed:
                undisturbed[plan.undisturbed] = stage.play(plan.undisturbed)
            played = stage.play(plan)
        if verbose:
            say(describe(played))
        check(plan, played, undisturbed[plan.undisturbed])
    except Exception as error:
        say(f"{driver.getvalue()}{type(error).__name__}: {error}")
        return False
    say(f"seed {seed}: well, {len(played.folder.struck())} faults struck, {time.monotonic() - began:.1f} s")
    return True


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
