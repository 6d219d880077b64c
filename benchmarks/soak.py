"""A long run whose workers are killed and stopped at random, compared bit for bit with an undisturbed one.

    python benchmarks/soak.py [minutes=20] [mean seconds between kills=30] [seed=1]

Three workers on this machine. Most often one of them gets SIGKILL, now and then SIGSTOP, and sometimes all of them get
SIGKILL. Then one worker that nobody disturbs takes as many steps, and every row and the last checkpoint of the two are
compared. Ctrl-C ends the killing early, not the comparison. Exit code 1 when a bit differs or a loss is not recorded.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arms.costs import Kill, cost, p95
from arms.task import OVERRIDES
from arms.watched import WatchedRun

from recorder.bundle import layout
from recorder.bundle.costs import mean_step_seconds
from recorder.bundle.rows import read_rows
from recorder.canonical import parse_utc
from recorder.ledger import events

WORKERS = 3
SETTINGS = [*OVERRIDES, "cluster.hang_seconds=5", "cluster.restarts=100", "checkpoint.every=500", "checkpoint.keep=2"]
KINDS = {"SIGKILL of one": 6, "SIGSTOP of one": 3, "SIGKILL of all": 1}
BITS = ("loss", "grad_norm", "learning_rate", "tokens", "order_digest", "gradient_digest", "fingerprint")
CHECKPOINT = (layout.CHECKPOINT_MODEL, layout.CHECKPOINT_OPTIMIZER, layout.CHECKPOINT_STATE)


@dataclass(frozen=True)
class Strike:
    """What was done to the workers of a membership, and to which processes."""

    kind: str
    kill: Kill
    pids: tuple[int, ...]


def disturb(run: WatchedRun, minutes: float, mean_seconds: float, chance: random.Random) -> list[Strike]:
    """Strike at random until the time is over, or until Ctrl-C."""
    strikes: list[Strike] = []
    started = time.monotonic()
    try:
        while (passed := time.monotonic() - started) < 60 * minutes:
            _sleep(run, min(chance.expovariate(1 / mean_seconds), 60 * minutes - passed))
            if (strike := _strike(run, strikes, chance)) is not None:
                strikes.append(strike)
                _say(started, f"{strike.kind}, {len(run.events(events.WORKER_LOST))} losses recorded before")
    except KeyboardInterrupt:
        _say(started, "no more kills")
    return strikes


def _sleep(run: WatchedRun, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.process.wait(seconds)
        raise RuntimeError(f"the run ended by itself with {run.process.returncode}:\n{run.output()}")


def _strike(run: WatchedRun, before: Sequence[Strike], chance: random.Random) -> Strike | None:
    """One blow at the newest membership; None when nobody is left in it that was not struck before."""
    workers = run.newest()
    struck = {pid for strike in before for pid in strike.pids}
    victims = [pid for pid in workers.pids.values() if pid not in struck] if workers else []
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    if kind != "SIGKILL of all":
        victims = [chance.choice(victims)] if victims else []
    number = signal.SIGSTOP if kind == "SIGSTOP of one" else signal.SIGKILL
    at, hit = time.time(), []
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            hit.append(pid)
    return Strike(kind, Kill(at, workers.generation), tuple(hit)) if workers and hit else None


def follow(run: WatchedRun) -> None:
    """Wait for the undisturbed run, and say now and then how far it is."""
    started = time.monotonic()
    while run.process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(30)
        saved = run.events(events.SNAPSHOT_SAVED)
        _say(started, f"undisturbed: step {saved[-1]['fields']['step'] if saved else 0}")
    run.wait()


def _say(started: float, text: str) -> None:
    print(f"{time.monotonic() - started:7.0f} s  {text}", file=sys.stderr, flush=True)


def rows_of(bundle: Path) -> list[dict[str, Any]]:
    """Every recorded row, those of steps that were computed twice included."""
    return list(read_rows(bundle, layout.METRICS))


def differences(ours: Path, undisturbed: Path, last: int) -> Iterator[str]:
    """Where the two runs do not have the same bits."""
    expected = {row["step"]: _bits(row) for row in rows_of(undisturbed)}
    rows = rows_of(ours)
    for row in rows:
        if _bits(row) != expected.get(row["step"]):
            yield f"step {row['step']}, recorded in membership {row['membership']}"
    if {row["step"] for row in rows} != set(expected):
        yield "the steps that were recorded"
    for name in CHECKPOINT:
        folder = layout.checkpoint_folder(last)
        if (ours / folder / name).read_bytes() != (undisturbed / folder / name).read_bytes():
            yield f"{folder}/{name}"


def _bits(row: dict[str, Any]) -> str:
    return repr([row.get(name) for name in BITS])


def effective_ratio(rows: list[dict[str, Any]]) -> float:
    """The share of the time from the first step to the last in which steps were computed that are not thrown away."""
    took = {row["step"]: mean_step_seconds(row) for row in rows}
    times = [parse_utc(row["time"]) for row in rows]
    return float(sum(took.values()) / (max(times) - min(times)))


def show_strikes(run: WatchedRun, strikes: list[Strike]) -> bool:
    """What was done, what of it is recorded and what it cost; whether every loss is recorded."""
    marks = run.marks()
    for kind in KINDS:
        found = [cost(strike.kill, WORKERS, marks) for strike in strikes if strike.kind == kind]
        if found:
            seconds = [one.first for one in found]
            median, high, redone = statistics.median(seconds), p95(seconds), sum(one.steps_lost for one in found)
            print(f"{kind}: {len(found):4}   next step after {median:.2f} s (p95 {high:.2f}), {redone} steps redone")
    lost = [event["fields"] for event in run.events(events.WORKER_LOST)]
    struck = [pid for strike in strikes for pid in strike.pids]
    missing = set(struck) - {fields["pid"] for fields in lost}
    causes = ", ".join(f"{count} {cause}" for cause, count in Counter(fields["cause"] for fields in lost).most_common())
    print(f"processes struck {len(struck)}, losses recorded {len(lost)}: {causes or 'none'}")
    if missing:
        print(f"NOT RECORDED: the losses of processes {sorted(missing)}")
    return not missing


def main(minutes: float, mean_seconds: float, seed: int) -> int:
    """Disturb one run, repeat it undisturbed, compare; the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {seed}; the runs are in {folder} until they are found equal", file=sys.stderr, flush=True)
    for name in ("disturbed", "undisturbed"):
        (folder / name).mkdir()
    endless = [*SETTINGS, f"cluster.workers={WORKERS}", "train.steps=100000000"]
    with WatchedRun(folder / "disturbed", endless) as run:
        run.settled(WORKERS, 10)
        strikes = disturb(run, minutes, mean_seconds, random.Random(seed))
        run.settled(WORKERS, 10, strikes[-1].kill.generation if strikes else -1)
        run.stop()
    last = max(mark.step for mark in run.marks())
    with WatchedRun(folder / "undisturbed", [*SETTINGS, "cluster.workers=1", f"train.steps={last}"]) as same:
        follow(same)

    complete = show_strikes(run, strikes)
    rows, straight = rows_of(run.bundle), rows_of(same.bundle)
    print(f"effective training time {effective_ratio(rows):.3f}, undisturbed {effective_ratio(straight):.3f}")
    found = list(differences(run.bundle, same.bundle, last))
    print(f"{last} steps, {len(rows)} rows: {'every bit as undisturbed' if not found else 'DIFFERENT BITS'}")
    for difference in found[:20]:
        print(f"  {difference}")
    if found or not complete:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    given = [float(argument) for argument in sys.argv[1:]]
    minutes, mean_seconds, seed = [*given, *[20.0, 30.0, 1.0][len(given) :]]
    sys.exit(main(minutes, mean_seconds, int(seed)))
