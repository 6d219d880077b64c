"""Where in its life a worker can be killed or stopped, and how it is done: at the k-th time that a worker gets there.

A worker of these tests is a forked process, so functions of the training code are replaced in it by ones that count
their calls and then strike. Nothing of this is in the training code. What strikes first writes down whom it hits.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from chaos_folder import Folder
from torch import Tensor

import recorder.checkpoint.memory
import recorder.checkpoint.safetensors_file
import recorder.checkpoint.writer
import train.worker
from recorder.ledger import events
from recorder.ledger.processes import is_alive
from recorder.worker import WorkerRecorder
from train.membership.group import Group
from train.membership.member import Member
from train.membership.messages import Vote
from train.optim import AdamW
from train.step.exchange import TreeExchange
from train.step.forward import Forward
from train.training import Training

Scope = Literal["worker", "node", "all"]
When = Callable[..., bool]


@dataclass(frozen=True)
class Fault:
    """The `incarnation`-th process of `rank` is hit when it is at `point` for the `call`-th time.

    "flip" flips one bit of what is in its memory there: of the sum it has received, or of a weight.
    With `scope` "node" every worker of its node dies with it; with "all" everyone. What a lost node held in memory is
    left lying there, as where a node is lost whose machine is not: nobody may use it.
    """

    rank: int
    incarnation: int
    point: str
    call: int
    signal: Literal["SIGKILL", "SIGSTOP", "flip"] = "SIGKILL"
    scope: Scope = "worker"

    @property
    def worker(self) -> str:
        return f"rank-{self.rank}.{self.incarnation}"


@dataclass(frozen=True)
class Place:
    """Before or after which calls a point is: of `owner.name`, of those for which `when` is true.

    A flip hits what `target` gives of the arguments; without it what the call gives, or else its object.
    """

    owner: Any
    name: str
    after: bool = False
    when: When = lambda *_, **__: True
    target: Callable[..., Any] | None = None


def _in_thread(name: str) -> When:
    return lambda *_, **__: threading.current_thread().name == name


def _of_event(type: str) -> When:
    return lambda _, kind, **__: kind == type


def _is_vote(_: Member, message: Any) -> bool:
    return isinstance(message, Vote)


def _is_end(_: Member, subject: str, *__: Any) -> bool:
    return subject == "end"


_TENSORS = recorder.checkpoint.safetensors_file

POINTS = {
    # Starting up and joining.
    "start": Place(train.worker.Worker, "__init__"),
    "connected": Place(Member, "__init__", after=True),
    "join": Place(Member, "ready"),
    "seated": Place(Member, "ready", after=True),
    "meet": Place(Group, "__init__"),
    "met": Place(Group, "__init__", after=True),
    "restore": Place(Training, "restore"),
    # Giving and taking the state.
    "send": Place(Group, "send"),
    "receive": Place(Group, "receive"),
    "received": Place(Group, "receive", after=True),
    # A step.
    "forward": Place(Forward, "loss"),
    "exchange": Place(TreeExchange, "sum"),
    "collective": Place(Group, "_begin"),
    "summed": Place(TreeExchange, "sum", after=True),
    "vote": Place(Member, "_send", when=_is_vote),
    "voted": Place(Member, "_send", after=True, when=_is_vote),
    "committed": Place(Member, "agree", after=True),
    "update": Place(AdamW, "_update"),
    "updated": Place(AdamW, "update", after=True),
    "record": Place(WorkerRecorder, "step"),
    "recorded": Place(WorkerRecorder, "step", after=True),
    # Writing checkpoints and snapshots: in the middle of a file, before the folder gets its name, before it is said.
    "checkpoint": Place(_TENSORS, "_write_view", when=_in_thread("checkpoint-writer")),
    "checkpoint written": Place(recorder.checkpoint.writer, "write_files", after=True),
    "checkpoint named": Place(recorder.checkpoint.writer, "sync_folder"),
    "checkpoint said": Place(WorkerRecorder, "event", after=True, when=_of_event(events.CHECKPOINT_SAVED)),
    "snapshot": Place(_TENSORS, "_write_view", when=_in_thread("memory-snapshots")),
    "snapshot written": Place(recorder.checkpoint.memory, "write_files", after=True),
    "snapshot named": Place(WorkerRecorder, "event", when=_of_event(events.SNAPSHOT_SAVED)),
    # The end.
    "end": Place(Member, "agree", when=_is_end),
    "ended": Place(Member, "agree", after=True, when=_is_end),
    "finished": Place(WorkerRecorder, "event", after=True, when=_of_event(events.WORKER_FINISHED)),
    "hung up": Place(Member, "ended", after=True),
}


# Where a bit flips in a state that is being taken over. No schedule kills there.
FLIPS = {
    "tensor received": Place(
        Group,
        "receive",
        after=True,
        when=lambda _, tensor, __: tensor.is_floating_point(),
        target=lambda _, tensor, __: tensor,
    ),
    "restored": Place(
        Training, "restore", after=True, target=lambda training, _: next(iter(training.model.parameters()))
    ),
}


class _Strike:
    """Counts, and hits when it is time."""

    def __init__(self, fault: Fault, folder: Folder, node: str) -> None:
        self._fault = fault
        self._folder = folder
        self._node = node
        self._calls = 0
        self._lock = threading.Lock()

    def __call__(self, target: Any) -> None:
        with self._lock:
            self._calls += 1
            if self._calls != self._fault.call:
                return
            if self._fault.signal == "flip":
                self._folder.strike(self._fault.worker, asdict(self._fault) | {"victims": [], "node": None})
                _flip(target.parameters[0] if isinstance(target, AdamW) else target)
            else:
                self._hit()

    def _hit(self) -> None:
        fault, own = self._fault, self._fault.worker
        lost = self._node if fault.scope == "node" else None
        chosen = {
            worker: process
            for worker, process in self._folder.alive().items()
            if worker != own and (fault.scope == "all" or (lost is not None and process["node"] == lost))
        }
        self._folder.strike(own, asdict(fault) | {"victims": [own, *chosen], "node": lost})
        for process in chosen.values():
            if is_alive(process["pid"], process["started"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process["pid"], signal.SIGKILL)
        os.kill(os.getpid(), signal.Signals[fault.signal])


def install(faults: list[Fault], folder: Folder, worker: str, node: str) -> None:
    """Arm this process, which is `worker` on `node`, and have it write down what it computes."""
    for fault in faults:
        if fault.worker == worker:
            _wrap((POINTS | FLIPS)[fault.point], _Strike(fault, folder, node))
    _write_down_micro_batches(folder.computed(worker))


def _wrap(place: Place, strike: Callable[[], None]) -> None:
    original = getattr(place.owner, place.name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if place.after:
            result = original(*arguments, **named)
        if place.when(*arguments, **named):
            found = result if place.after and result is not None else arguments[0]
            strike(place.target(*arguments, **named) if place.target else found)
        return result if place.after else original(*arguments, **named)

    setattr(place.owner, place.name, wrapped)


def _flip(tensor: Tensor) -> None:
    """Flip one bit of one number in the middle of `tensor`, as a cosmic ray would."""
    words = tensor.detach().view(-1).view(torch.int32)
    words[words.numel() // 2] ^= 1 << 20


def _write_down_micro_batches(path: Path) -> None:
    members: list[Member] = []
    member_type: Any = Member
    forward_type: Any = Forward
    connect, loss = member_type.__init__, forward_type.loss
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def connected(member: Member, *arguments: Any, **named: Any) -> None:
        members.append(member)
        connect(member, *arguments, **named)

    def computed(forward: Forward, batches: Any, purpose: str, step: int, micro_batch: int) -> Any:
        result = loss(forward, batches, purpose, step, micro_batch)
        if purpose == "train":
            os.write(handle, b"%d %d %d\n" % (members[0].number, step, micro_batch))
        return result

    member_type.__init__, forward_type.loss = connected, computed
