"""What losing workers costs: this project, stock Ray Train and torchrun, the same model and the same kills.

    python benchmarks/recovery.py [rounds=5] [kills=2] [arms]

Each round runs every arm, and kills so often in each of them, after a random number of steps: one of two workers, both,
or a node of a cluster of three with room for one worker each. Seconds are from just before the kill to the next
committed step; in the table's order also to the first step by all workers again, and to the first step that had not
been committed before. Then: what agreeing costs a step, and how long a run lasts after its last worker. `arms` is how
the names of those begin that are run: `ours` leaves out the others.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

from arms.costs import Cost, Kill, Mark, Workers, cost, p95, step_seconds
from arms.quorum import quorum_seconds
from arms.scripts import stock_ray, torchrun
from arms.task import OVERRIDES, STATE_EVERY, WORKERS
from arms.watched import WatchedRun

from recorder.canonical import parse_utc
from recorder.ledger import events

REPOSITORY = Path(__file__).parents[1]
# The repository comes first: the tests have folders of the packages' names, and spawned processes inherit the path.
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from helpers.clusters import Nodes, nodes  # noqa: E402  (the cluster is the one the tests use)

NODES = 3
# So many steps after a loss every arm has caught up, also where its newest checkpoint was not complete.
ENOUGH = 2 * STATE_EVERY + 10
QUORUM_ROUNDS = 2000
# The node must be lost before the last step, also where steps are fast and looks at the record are not.
STEPS_TO_THE_END = 500
IN_PLACE, NODE_IN_PLACE = "ours, one of two killed", "ours, node lost"
STOCK = "stock Ray Train, one of two killed"


class Arm(Protocol):
    """A training that runs, watched; what still runs when the context is left is killed."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(self, *exception: object) -> None:
        """Kill it."""

    def settled(self, count: int, steps: int, after: int = -1) -> Workers:
        """Wait until `count` workers of a generation later than `after` have committed so many steps."""

    def marks(self) -> list[Mark]:
        """All committed steps."""

    def stop(self) -> None:
        """End it in order."""


# Kills, and says when.
Strike = Callable[[Workers], float]


def suffer(arm: Arm, kill: Strike, kills: int, chance: random.Random) -> tuple[list[Cost], float]:
    """Kill so many times, each after a random number of steps; the costs, and the seconds a step takes."""
    done: list[Kill] = []
    with arm:
        for _ in range(kills):
            before = done[-1].generation if done else -1
            workers = arm.settled(WORKERS, ENOUGH + chance.randrange(STATE_EVERY), before)
            done.append(Kill(kill(workers), workers.generation))
        arm.settled(WORKERS, ENOUGH, done[-1].generation)
        arm.stop()
    marks = arm.marks()
    return [cost(one, WORKERS, marks) for one in done], step_seconds(marks, WORKERS)


def ours(folder: Path, address: str = "local", workers: int = WORKERS, steps: int = 1_000_000) -> WatchedRun:
    """This project's arm; it is stopped long before the last step."""
    cluster = [f"cluster.address={address}", f"cluster.workers={workers}"]
    return WatchedRun(folder, [*OVERRIDES, *cluster, f"train.steps={steps}"])


def a_round(
    cluster: Nodes, kills: int, chance: random.Random, folder: Path, begins: str
) -> dict[str, tuple[list[Cost], float]]:
    """Every arm whose name begins with `begins`, once."""

    def one(workers: Workers) -> float:
        return kill_processes([chance.choice(list(workers.pids.values()))])

    def everyone(workers: Workers) -> float:
        return kill_processes(list(workers.pids.values()))

    def node(workers: Workers) -> float:
        cluster.restore(NODES)
        at = time.time()
        cluster.lose(chance.choice(list(workers.nodes.values())))
        return at

    arms: list[tuple[str, Callable[[Path], Arm], Strike]] = [
        (IN_PLACE, ours, one),
        (STOCK, stock_ray, one),
        ("torchrun, one of two killed", torchrun, one),
        ("ours, both killed", ours, everyone),
        (NODE_IN_PLACE, lambda folder: ours(folder, cluster.address), node),
        ("stock Ray Train, node lost", lambda folder: stock_ray(folder, cluster.address), node),
    ]
    found = {}
    for number, (arm, start, kill) in enumerate(arms):
        if not arm.startswith(begins):
            continue
        cluster.restore(NODES)
        (own := folder / str(number)).mkdir()
        found[arm] = suffer(start(own), kill, kills, chance)
        print(f"{arm}: {[round(one.first, 2) for one in found[arm][0]]}", file=sys.stderr, flush=True)
    return found


def kill_processes(pids: Sequence[int]) -> float:
    """Kill them; POSIX seconds just before."""
    at = time.time()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return at


def end_seconds(cluster: Nodes, folder: Path) -> float:
    """Seconds from the last worker's end to the attempt's, while the successor of a lost worker finds no room."""
    cluster.restore(NODES)
    with ours(folder, cluster.address, NODES, STEPS_TO_THE_END) as run:
        cluster.lose(run.settled(NODES, 5).nodes[NODES - 1])
        run.wait()
    joined = {event["fields"]["worker"] for event in run.events(events.WORKER_JOINED)}
    # Successors that Ray tried to start on the lost node before it noticed are lost as well.
    lost = {event["fields"]["worker"] for event in run.events(events.WORKER_LOST)}
    if len(joined) != NODES or len(joined & lost) != 1:
        raise RuntimeError(f"one of {NODES} workers was to be lost and not replaced: {joined} joined, {lost} were lost")
    finished = [parse_utc(event["time"]) for event in run.events(events.WORKER_FINISHED)]
    return parse_utc(run.events(events.ATTEMPT_ENDED)[-1]["time"]) - max(finished)


def show(costs: dict[str, list[Cost]], steps: dict[str, list[float]]) -> None:
    """The table, and the aims beside it."""
    print(f"{'seconds from the kill to':36} {'the next step':>16} {'all again':>16} {'a new step':>16}   steps lost")
    print(f"{'':36} " + f"{'median    p95':>16} " * 3 + f"  {'median  most':>10}   kills  ms a step")
    for arm, found in costs.items():
        times = [[one.first for one in found], [one.whole for one in found], [one.new for one in found]]
        parts = [f"{statistics.median(values):9.2f} {p95(values):6.2f}" for values in times]
        lost = [one.steps_lost for one in found]
        milliseconds = 1000 * statistics.median(steps[arm])
        ends = f"{statistics.median(lost):6.1f} {max(lost):5} {len(found):7} {milliseconds:10.1f}"
        print(f"{arm:36} {' '.join(parts)}   {ends}")
    place, stock = ([one.first for one in costs[arm]] for arm in (IN_PLACE, STOCK))
    print(f"in place, p95              {p95(place):6.2f} s   (aim: at most 3)")
    if stock:
        ratio = statistics.median(stock) / statistics.median(place)
        print(f"stock Ray Train / in place {ratio:6.1f}     (aim: at least 10)")
    lost = [one.steps_lost for arm in (IN_PLACE, NODE_IN_PLACE) for one in costs[arm]]
    print(f"in place, steps lost       {max(lost):6}     (aim: 0)")


def main(rounds: int, kills: int, begins: str) -> None:
    """Interleave the arms, and print medians and 95th percentiles."""
    # The nodes' workers import what the arms' scripts do.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "benchmarks")])
    chance = random.Random(1)
    costs: dict[str, list[Cost]] = defaultdict(list)
    steps: dict[str, list[float]] = defaultdict(list)
    quorum, ends = [], []
    with nodes(NODES) as cluster:
        for number in range(1, rounds + 1):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
                for arm, (found, seconds) in a_round(cluster, kills, chance, Path(name), begins).items():
                    costs[arm] += found
                    steps[arm].append(seconds)
                (Path(name) / "end").mkdir()
                ends.append(end_seconds(cluster, Path(name) / "end"))
            quorum += quorum_seconds(WORKERS, QUORUM_ROUNDS)
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    show(costs, steps)
    milliseconds = [1000 * value for value in quorum]
    median, high = statistics.median(milliseconds), p95(milliseconds)
    print(f"quorum and commit, a step  {median:6.2f} ms  (aim: at most 3), p95 {high:.2f} ms")
    print(f"last worker's end to run's {max(ends):6.2f} s   (aim: at most 5)")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:3]]
    main(*given, *[5, 2][len(given) :], "".join(sys.argv[3:]))
