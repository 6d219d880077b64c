"""Real gloo groups of real processes over loopback: what they compute, and how they end when a member does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch
from group_processes import CPU, HOST, GroupRun, Process, Seatholder

from train.membership import group as group_module
from train.membership import notices
from train.membership.group import Group, Meeting, open_meeting
from train.membership.member import MembershipOver
from train.membership.messages import Form, Position, Seat, Source
from train.step.accumulate import Root
from train.step.exchange import SingleExchange, TreeExchange
from train.step.tree import Fold, Span, ranges

MICRO_BATCHES, LENGTH = 6, 29


@pytest.fixture
def run() -> Iterator[Callable[[int], GroupRun]]:
    made: list[GroupRun] = []

    def make(workers: int) -> GroupRun:
        made.append(GroupRun(workers))
        return made[-1]

    yield make
    for one in made:
        one.close()


def begun(run: GroupRun, work: Callable[..., Any], workers: int, *arguments: Any) -> list[Process]:
    """So many processes that do the same."""
    processes = [run.start(work, *arguments) for _ in range(workers)]
    run.begin()
    return processes


def roots(rank: int, workers: int) -> list[Root]:
    """The partial sums of one worker, of vectors whose sum depends on the order."""
    fold = Fold[torch.Tensor](MICRO_BATCHES, lambda left, right: left + right)
    for micro_batch in ranges(MICRO_BATCHES, workers)[rank]:
        generator = torch.Generator().manual_seed(micro_batch)
        fold.push(Span(micro_batch, 1), torch.randn(LENGTH, generator=generator) * 10.0**micro_batch)
    return fold.parts


def computes(seat: Seatholder) -> dict[str, Any]:
    """Each collective once, then parts of different sizes, and none, from and to everyone."""
    form = seat.sit()
    group = seat.group(form)
    rank, size = group.rank(), group.size()
    gathered = [torch.zeros(3) for _ in range(size)]
    group.allgather([gathered], [torch.full((3,), float(rank))]).wait()
    summed = torch.full((3,), 2.0**rank)
    group.allreduce([summed]).wait()
    sent = torch.arange(float(size * (size - 1) // 2)) + 100 * rank
    received = torch.zeros(rank * size)
    group.alltoall_base(received, sent, [rank] * size, list(range(size))).wait()
    total = TreeExchange(group).sum(roots(rank, size), MICRO_BATCHES)
    group.close()
    return {
        "place": (rank, size),
        "allgather": [part.tolist() for part in gathered],
        "allreduce": summed.tolist(),
        "alltoall": received.tolist(),
        "tree": total.numpy().tobytes(),
    }


@pytest.mark.parametrize("workers", [2, 3])
def test_collectives_give_what_they_should(run: Callable[[int], GroupRun], workers: int) -> None:
    expected = SingleExchange().sum(roots(0, 1), MICRO_BATCHES).numpy().tobytes()
    for rank, process in enumerate(begun(run(workers), computes, workers)):
        heard = process.hear()
        assert heard["place"] == (rank, workers)
        assert heard["allgather"] == [[float(other)] * 3 for other in range(workers)]
        assert heard["allreduce"] == [2.0**workers - 1] * 3
        before = sum(range(rank))
        parts = [[100.0 * other + before + item for item in range(rank)] for other in range(workers)]
        assert heard["alltoall"] == [value for part in parts for value in part]
        assert heard["tree"] == expected


def passes_on(seat: Seatholder) -> list[Any]:
    """What comes from the one before goes to the one after, tensors of several types and sizes one after another."""
    group = seat.group(seat.sit())
    kinds = [(torch.int64, 1), (torch.uint8, 1000), (torch.float32, 1 << 18), (torch.float32, 0)]
    tensors = [
        torch.arange(size).to(kind) if group.rank() == 0 else torch.zeros(size, dtype=kind) for kind, size in kinds
    ]
    for tensor in tensors:
        if group.rank() > 0:
            group.receive(tensor, group.rank() - 1)
        if group.rank() < group.size() - 1:
            group.send(tensor, group.rank() + 1)
    group.close()
    return [bool(torch.equal(tensor, torch.arange(tensor.numel()).to(tensor.dtype))) for tensor in tensors]


def test_what_is_sent_is_what_is_received(run: Callable[[int], GroupRun]) -> None:
    for process in begun(run(3), passes_on, 3):
        assert process.hear() == [True] * 4


def waits_for_others(seat: Seatholder, last: int, how: str = "allgather") -> tuple[str, bool] | str:
    """Says that it is in the group, then all but the `last` wait for it; how that ended, and who found it out."""
    group = seat.group(seat.sit())
    tensors = [torch.zeros(1 << 16) for _ in range(group.size())]
    group.allgather([tensors], [tensors[0]]).wait()
    seat.talk.send("in the group")
    if seat.talk.recv() == "leave" or group.rank() == last:
        return "waits"
    try:
        if how == "receive":
            group.receive(tensors[0], last)
        elif how == "send":
            for _ in range(1000):  # more than buffers take
                group.send(tensors[0], last)
        else:
            group.allgather([tensors], [tensors[0]]).wait()
    except MembershipOver as over:
        group.close()
        told = over.told
        # The others of the membership go on without whoever was lost, in a group of their own.
        again = seat.group(seat.sit(Position(0)))
        mine = torch.ones(1)
        again.allreduce([mine]).wait()
        again.close()
        return f"{int(mine)} go on", told
    return "it ended"


@pytest.mark.parametrize("how", ["allgather", "receive", "send"])
def test_a_killed_member_ends_the_waiting_of_the_others_who_go_on(run: Callable[[int], GroupRun], how: str) -> None:
    started = run(3)
    processes = begun(started, waits_for_others, 3, 2, how)
    assert [process.hear() for process in processes] == ["in the group"] * 3
    for process in processes[:2]:
        process.tell("wait")
    processes[2].kill()
    assert [process.hear()[0] for process in processes[:2]] == ["2 go on"] * 2
    assert started.wait_for(notices.WorkerLost).hello.worker == "rank-2.0"


@pytest.mark.parametrize("how", ["allgather", "receive", "send"])
def test_a_stopped_member_blocks_nobody_once_the_coordinator_says_so(run: Callable[[int], GroupRun], how: str) -> None:
    """gloo itself would wait for it, and nothing wakes a thread that waits in there."""
    started = run(3)
    processes = begun(started, waits_for_others, 3, 2, how)
    assert [process.hear() for process in processes] == ["in the group"] * 3
    processes[2].stop()
    for process in processes[:2]:
        process.tell("wait")
    started.expel("rank-2.0")
    assert [process.hear() for process in processes[:2]] == [("2 go on", True)] * 2


def comes_to_form(seat: Seatholder, last: int) -> int | str:
    """All but the `last` form the group of the first membership; they go on in that of the next."""
    form = seat.sit()
    if [holder.worker for holder in form.seats][last] == seat.member.worker:
        seat.talk.send("has a seat")
        seat.talk.recv()
    try:
        seat.group(form)
    except MembershipOver:
        seat.talk.send("gave up")
        again = seat.group(seat.sit(Position(0)))
        mine = torch.ones(1)
        again.allreduce([mine]).wait()
        again.close()
        return int(mine)
    return "it was formed"


@pytest.mark.parametrize("fate", ["killed", "stopped"])
def test_a_member_that_is_lost_while_the_group_is_formed_is_not_waited_for(
    run: Callable[[int], GroupRun], fate: str
) -> None:
    started = run(3)
    processes = begun(started, comes_to_form, 3, 2)
    assert processes[2].hear() == "has a seat"
    if fate == "killed":
        processes[2].kill()
    else:
        processes[2].stop()
        started.expel("rank-2.0")
    for process in processes[:2]:
        assert [process.hear(), process.hear()] == ["gave up", 2]


def begins_too_late(seat: Seatholder) -> str:
    group = seat.group(seat.sit())
    seat.talk.send("in the group")
    seat.talk.recv()
    seat.member._changed.wait()
    try:
        group.allreduce([torch.ones(1)])
    except MembershipOver as over:
        return f"refused, told: {over.told}"
    return "it began"


def test_no_collective_begins_once_the_membership_is_over(run: Callable[[int], GroupRun]) -> None:
    started = run(2)
    processes = begun(started, begins_too_late, 2)
    assert [process.hear() for process in processes] == ["in the group"] * 2
    for process in processes:
        process.tell("go on")
    started.expel("rank-1.0")
    assert processes[0].hear() == "refused, told: True"


class Patient:
    """A member that nobody tells anything: what it learns, it learns from the group."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.said_busy = 0

    def busy(self) -> None:
        self.said_busy += 1

    def check(self) -> None:
        """The membership goes on."""

    def wait(self, done: Callable[[Callable[[], None]], None]) -> None:
        finished = threading.Event()
        done(finished.set)
        assert finished.wait(60)


def groups_of_threads() -> list[Group]:
    """Two groups of one membership in this process, without a coordinator."""
    store = open_meeting(HOST)
    workers = ["rank-0.0", "rank-1.0"]
    form = Form(
        0, [Seat(name, rank, "n") for rank, name in enumerate(workers)], Source("start", 0), Position(0), workers
    )
    groups: dict[str, Group] = {}

    def form_group(worker: str) -> None:
        meeting = Meeting(f"{HOST}:{store.port}")
        groups[worker] = Group(Patient(worker), form, meeting, CPU, HOST, 900.0)  # type: ignore[arg-type]

    threads = [threading.Thread(target=form_group, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [groups[worker] for worker in workers]


def test_giving_the_group_up_wakes_who_waits_in_it() -> None:
    first, second = groups_of_threads()
    work = first.allreduce([torch.ones(1)])
    second.close()
    with pytest.raises(MembershipOver, match="the exchange broke") as caught:
        work.wait()
    assert not caught.value.told
    with pytest.raises(MembershipOver):
        first.allreduce([torch.ones(1)]).wait()
    first.close()


def test_a_state_goes_in_pieces_and_each_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "_PIECE", 4)
    first, second = groups_of_threads()
    sent, received = torch.arange(22.0).view(2, 11), torch.zeros(2, 11)
    thread = threading.Thread(target=first.send, args=[sent, 1])
    thread.start()
    second.receive(received, 0)
    thread.join()
    assert torch.equal(sent, received)
    assert [group._member.said_busy for group in (first, second)] == [6, 6]  # type: ignore[attr-defined]
    for group in (first, second):
        group.close()


class Leaving(Patient):
    """A member whose membership is over when it begins to wait."""

    def __init__(self) -> None:
        super().__init__("rank-1.0")
        self.arrived = threading.Event()

    def wait(self, done: Callable[[Callable[[], None]], None]) -> None:
        done(self.arrived.set)
        raise MembershipOver("over")


def test_what_comes_after_the_membership_is_over_is_not_written_into_the_state() -> None:
    first, second = groups_of_threads()
    leaving, state = Leaving(), torch.zeros(8)
    second._member = leaving  # type: ignore[assignment]
    with pytest.raises(MembershipOver):
        second.receive(state, 0)
    first.send(torch.ones(8), 1)
    assert leaving.arrived.wait(60)
    assert torch.equal(state, torch.zeros(8))
    for group in (first, second):
        group.close()


def test_the_group_itself_waits_at_least_as_long_as_the_coordinator() -> None:
    for group in (groups := groups_of_threads()):
        assert group._backend.options._timeout >= timedelta(seconds=900)
    for group in groups:
        group.close()


def test_members_that_do_not_find_each_other_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "_MEETING_SECONDS", 0.0)
    store = open_meeting(HOST)
    seats = [Seat(f"rank-{rank}.0", rank, "n") for rank in range(2)]
    form = Form(0, seats, Source("start", 0), Position(0), [seats[0].worker])
    with pytest.raises(MembershipOver, match="did not find each other in 0 s"):
        Group(Patient("rank-0.0"), form, Meeting(f"{HOST}:{store.port}"), CPU, HOST, 900.0)  # type: ignore[arg-type]


def test_where_the_meeting_cannot_be_reached_the_membership_is_over() -> None:
    class Unreachable:
        def prefix(self, name: str) -> None:
            raise RuntimeError(f"{name}: the connection timed out")

    seats = [Seat(f"rank-{rank}.0", rank, "n") for rank in range(2)]
    form = Form(3, seats, Source("start", 0), Position(0), [])
    with pytest.raises(MembershipOver, match="did not find each other: membership-3: the connection timed out"):
        Group(Patient("rank-0.0"), form, Unreachable(), CPU, HOST, 900.0)  # type: ignore[arg-type]


def test_what_is_relied_on_of_gloo() -> None:
    """Collectives have a future, send and receive have none; and those fail when they are waited for again."""
    first, second = groups_of_threads()
    works = [group._backend.allreduce([torch.ones(1)]) for group in (first, second)]
    for work in works:
        done = threading.Event()
        work.get_future().add_done_callback(lambda _, done=done: done.set())
        assert done.wait(60)
        work.wait()
    sent, received = torch.ones(1), torch.zeros(1)
    works = [first._backend.send([sent], 1, 0), second._backend.recv([received], 0, 0)]
    for work in works:
        with pytest.raises(RuntimeError, match="getFuture"):
            work.get_future()
        work.wait()
    assert torch.equal(sent, received)
    with pytest.raises(RuntimeError, match=r"[Tt]imed? ?out"):
        works[0].wait(timedelta(milliseconds=200))
    for group in (first, second):
        group.close()
