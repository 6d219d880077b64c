"""A schedule of faults as a pure function of a seed: how a run is set up, who is hit, where, and how.

The points are taken in turn, so that any fifty seeds in a row hit a worker at every one of them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from chaos_faults import POINTS, Fault, Scope

# (steps, micro-batches): what the bits depend on. A power of two and others, and one where workers get unequal shares.
_SIZES = ((12, 4), (12, 6), (14, 5), (10, 8))
_STOPPED_AT = ("forward", "vote", "seated", "update", "send", "checkpoint", "exchange", "recorded")


@dataclass(frozen=True)
class Schedule:
    """One run and what happens to it. `nodes` has the node of each rank."""

    seed: int
    steps: int
    micro_batches: int
    nodes: tuple[str, ...]
    min_workers: int = 1
    memory_every: int = 0
    checkpoint_every: int = 1000
    hang_seconds: float = 60.0
    faults: tuple[Fault, ...] = ()

    @property
    def workers(self) -> int:
        """How many are asked for."""
        return len(self.nodes)

    @property
    def undisturbed(self) -> Schedule:
        """A run of the same bits: one worker, which nothing happens to."""
        return Schedule(0, self.steps, self.micro_batches, nodes=("node-a",))


def schedule(seed: int) -> Schedule:
    """The schedule of `seed`."""
    draw = random.Random(seed)
    steps, micro_batches = draw.choice(_SIZES)
    workers = draw.randint(2, min(4, micro_batches))
    plan = Schedule(
        seed,
        steps,
        micro_batches,
        nodes=tuple(draw.choice(("node-a", "node-b")) for _ in range(workers)),
        min_workers=draw.randint(1, workers),
        memory_every=draw.choice((0, 1, 2, 5)),
        checkpoint_every=draw.choice((2, 3, 7, 1000)),
    )
    if seed % 7 == 3:
        return _stopped(plan, draw)
    point = list(POINTS)[(seed - (seed + 3) // 7) % len(POINTS)]
    plan = _ready_for(plan, point, draw)
    return replace(plan, faults=(*plan.faults, *_faults(plan, point, draw)))


def _stopped(plan: Schedule, draw: random.Random) -> Schedule:
    """A worker stops without ending, and another may die as well."""
    point = draw.choice(_STOPPED_AT)
    plan = _ready_for(replace(plan, hang_seconds=1.5), point, draw)
    first = _fault(plan, point, draw)
    more = [_fault(plan, "forward", draw)] if draw.random() < 0.3 else []
    return replace(plan, faults=(*plan.faults, replace(first, signal="SIGSTOP"), *more))


def _ready_for(plan: Schedule, point: str, draw: random.Random) -> Schedule:
    """The plan with what must be so for a worker to get to `point`."""
    if point.startswith("snapshot"):
        plan = replace(plan, memory_every=plan.memory_every or 2)
    if point.startswith("checkpoint"):
        plan = replace(plan, checkpoint_every=min(plan.checkpoint_every, 7))
    if point in {"send", "receive", "received", "restore"}:
        # Somebody is lost and waited for, and is given the state by the others; or nobody has one.
        everybody = point == "restore"
        first = Fault(draw.randrange(plan.workers), 0, "forward", 4, scope="all" if everybody else "worker")
        plan = replace(plan, min_workers=plan.workers, faults=(first,))
        if everybody:
            plan = replace(plan, memory_every=draw.choice((0, 1)), checkpoint_every=1)
        elif draw.random() < 0.4:
            # Nobody is left who has the state, in whole.
            plan = replace(plan, nodes=plan.nodes[:2], min_workers=2, memory_every=0, checkpoint_every=1000)
            plan = replace(plan, faults=(replace(first, rank=first.rank % 2),))
    return plan


def _faults(plan: Schedule, point: str, draw: random.Random) -> list[Fault]:
    """One to three: alone, several at one place or at several, at once or one after the other."""
    scope: Scope = draw.choices(("worker", "node", "all"), (6, 2, 3))[0]
    faults = [replace(_fault(plan, point, draw), scope=scope)]
    taken = {fault.worker for fault in (*plan.faults, *faults)}
    for _ in range(draw.choice((0, 0, 1, 1, 2))):
        another = point if draw.random() < 0.4 else draw.choice(list(POINTS))
        fault = _fault(plan, another, draw)
        if draw.random() < 0.3:
            fault = replace(fault, incarnation=draw.randint(1, 2))
        if fault.worker not in taken:
            taken.add(fault.worker)
            faults.append(fault)
    return faults


def _fault(plan: Schedule, point: str, draw: random.Random) -> Fault:
    rank, incarnation = draw.randrange(plan.workers), 0
    if point == "send" and plan.faults:
        rank = draw.choice([rank for rank in range(plan.workers) if rank != plan.faults[0].rank])
    elif point in {"receive", "received", "restore"} and plan.faults:
        rank, incarnation = plan.faults[0].rank, 1
    elif point.startswith("checkpoint"):
        rank = 0  # the leader
    elif point.startswith("snapshot"):
        rank = plan.nodes.index(draw.choice(plan.nodes))  # the first of its node
    return Fault(rank, incarnation, point, draw.randint(1, _calls(plan, point)))


def _calls(plan: Schedule, point: str) -> int:
    """How often an undisturbed worker gets to a point, at least."""
    once = {"start", "connected", "join", "seated", "meet", "met", "restore", "end", "ended", "finished", "hung up"}
    if point in once:
        return 1
    if point in {"send", "receive", "received"}:
        return 20
    if point == "forward":
        return plan.steps * (plan.micro_batches // plan.workers)
    if point.startswith("checkpoint"):
        saved = 1 + (plan.steps - 1) // plan.checkpoint_every
        return saved * (30 if point == "checkpoint" else 1)
    if point.startswith("snapshot"):
        # A snapshot is left out while the one before is being written.
        return 30 if point == "snapshot" else 1
    return plan.steps * (2 if point == "update" else 1)
