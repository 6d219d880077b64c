"""The process group of one membership: made anew for each, given up at once when the membership ends.

torch's default group cannot be replaced while it is in use, so the backend is used directly (checked by
`tests/train/membership/test_group.py`). A gloo group that has lost a member raises in every collective; one that waits
for a stopped process does not, and `abort` does not wake the waiting thread. Waiting is therefore done here, for the
end of the collective or of the membership, whichever comes first, and what still runs is left behind: what it writes
to is memory of that membership alone, for its exchange or a piece of the state, and never the state or a step's sums.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C import _distributed_c10d as c10d

from train.membership.member import Member, MembershipOver
from train.membership.messages import Form

_MEETING_SECONDS = 60.0
_SHORTEST_LIMIT = 60.0
_PIECE = 4 << 20  # elements of a state that are sent at a time: to say that it gets on, and to need little memory
_RENDEZVOUS = timedelta(seconds=20)
_POLL_SECONDS = 0.0005


def open_meeting(host: str) -> c10d.TCPStore:
    """The store, in the driver, that a `Meeting` connects to; its `port` is chosen by the system."""
    return c10d.TCPStore(host, 0, is_master=True, wait_for_workers=False)


class Meeting:
    """The store through which the members of a group find each other; the driver holds it, at `address`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = host, int(port)

    def prefix(self, name: str) -> c10d.Store:
        """A part of the store of its own, over a connection of its own.

        One that waits for a dead member's key holds its connection until the time is up: the next group must not share
        it.
        """
        host, port = self._address
        return c10d.PrefixStore(name, c10d.TCPStore(host, port, is_master=False, timeout=_RENDEZVOUS))


class Group:
    """The collectives of one membership, as `train.step.exchange.Collectives` wants them.

    Every wait raises MembershipOver when the membership ends, or when another member is gone. The coordinator ends it
    long before `limit`, after which the backend gives up by itself: what is left behind does not stay for ever.
    """

    def __init__(
        self, member: Member, form: Form, meeting: Meeting, device: torch.device, address: str, limit: float
    ) -> None:
        workers = [seat.worker for seat in form.seats]
        self._member = member
        self._place = workers.index(member.worker)
        self._size = len(workers)
        self._device = device
        self._limit = timedelta(seconds=max(limit, _SHORTEST_LIMIT))
        self._backend = self._connect(lambda: meeting.prefix(f"membership-{form.membership}"), address)

    def rank(self) -> int:
        """This worker's number, from 0."""
        return self._place

    def size(self) -> int:
        """How many workers there are."""
        return self._size

    def alltoall_base(self, output: Tensor, input: Tensor, output_sizes: list[int], input_sizes: list[int]) -> Any:
        """Send each worker its part of `input` and receive a part of `output` from each."""
        return self._begin("alltoall_base", output, input, output_sizes, input_sizes)

    def allgather(self, outputs: list[list[Tensor]], inputs: list[Tensor]) -> Any:
        """Receive every worker's input."""
        return self._begin("allgather", outputs, inputs)

    def allreduce(self, tensors: list[Tensor]) -> Any:
        """Sum in place, in an order of the group's own."""
        return self._begin("allreduce", tensors)

    def send(self, tensor: Tensor, place: int) -> None:
        """Send `tensor`, which is contiguous, to the worker with number `place`, and tell that it gets on."""
        for piece in torch.split(tensor.view(-1), _PIECE):
            self._begin("send", [piece], place, 0).wait()
            self._member.busy()

    def receive(self, tensor: Tensor, place: int) -> None:
        """Receive `tensor`, which is contiguous, from the worker with number `place`, and tell that it gets on."""
        flat = tensor.view(-1)
        space = torch.empty_like(flat[:_PIECE])
        for piece in torch.split(flat, _PIECE):
            came = space[: len(piece)]
            self._begin("recv", [came], place, 0).wait()
            piece.copy_(came)
            self._member.busy()

    def close(self) -> None:
        """Give the group up: members that still wait in it for this one are woken."""
        held = [self._backend]
        del self._backend
        held[0].abort()
        # Destroying it joins its threads, which may be stuck in a collective with a member that is stopped. So another
        # thread does, and nobody else may hold it by then.
        threading.Thread(target=held.clear, name="group-end", daemon=True).start()

    def _begin(self, collective: str, *arguments: Any) -> Work:
        self._member.check()
        try:
            work = getattr(self._backend, collective)(*arguments)
            return Work(self._member, work, self._device, has_future=collective not in {"send", "recv"})
        except (RuntimeError, ConnectionError) as error:
            raise MembershipOver(f"{collective} failed: {_line(error)}") from error

    def _connect(self, store: Callable[[], c10d.Store], address: str) -> Any:
        """Meet the others. It waits for all of them in C++, so it is done in a thread that can be left behind."""
        made: list[Any] = []
        timers: list[threading.Timer] = []

        def connect(finish: Any) -> None:
            def make() -> None:
                try:
                    made.append(_backend(store(), self._place, self._size, self._device, address, self._limit))
                except Exception as error:
                    made.append(error)
                finish()

            threading.Thread(target=make, name="group-start", daemon=True).start()
            timers.append(threading.Timer(_MEETING_SECONDS, finish))
            timers[0].start()

        try:
            self._member.wait(connect)
        finally:
            for timer in timers:
                timer.cancel()
        if not made:
            raise MembershipOver(f"the workers did not find each other in {_MEETING_SECONDS:.0f} s")
        if isinstance(made[0], Exception):
            raise MembershipOver(f"the workers did not find each other: {_line(made[0])}") from made[0]
        return made[0]


class Work:
    """A collective that runs."""

    def __init__(self, member: Member, work: Any, device: torch.device, has_future: bool) -> None:
        self._member = member
        self._work = work
        self._device = device
        self._has_future = has_future

    def wait(self) -> None:
        """Wait for its end. Raises MembershipOver."""
        try:
            if self._device.type == "cuda":
                while not self._work.is_completed():
                    self._member.check()
                    time.sleep(_POLL_SECONDS)
                self._work.wait()
            elif self._has_future:
                future = self._work.get_future()
                self._member.wait(lambda finish: future.add_done_callback(lambda _: finish()))
                self._work.wait()
            else:
                self._wait_in_thread()
        except (RuntimeError, ConnectionError) as error:
            raise MembershipOver(f"the exchange broke: {_line(error)}") from error

    def _wait_in_thread(self) -> None:
        """Wait for what has no future, in a thread that can be left behind."""
        failed: list[Exception] = []

        def wait(finish: Callable[[], None]) -> None:
            try:
                self._work.wait()
            except Exception as error:
                failed.append(error)
            finish()

        self._member.wait(
            lambda finish: threading.Thread(target=wait, args=[finish], name="group-transfer", daemon=True).start()
        )
        if failed:
            raise failed[0]


def _backend(store: c10d.Store, place: int, size: int, device: torch.device, address: str, limit: timedelta) -> Any:
    if device.type == "cuda":
        nccl: Any = dist.ProcessGroupNCCL
        options = nccl.Options()
        options._timeout = limit
        return nccl(store, place, size, options)
    gloo: Any = dist.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname=address)]
    options._timeout = limit
    options._threads = 2
    return gloo(store, place, size, options)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
