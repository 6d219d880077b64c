"""The coordinator's server and its members over loopback: who is let in, what reaches whom, what a broken line does."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from simulated_run import hello

from train.membership import notices
from train.membership import server as server_module
from train.membership.coordinator import Coordinator
from train.membership.member import Dismissed, Member, MembershipOver
from train.membership.messages import Arrived, Busy, Ended, Hello, Position, Ready, Source, Stage, Vote, encode
from train.membership.server import CoordinatorServer

PATIENCE = 20.0


class Server:
    """A server with a queue of what it tells its driver."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.server = CoordinatorServer(coordinator, "token", "127.0.0.1", self.told)
        self.lost: queue.SimpleQueue[str] = queue.SimpleQueue()

    def next(self, kind: type) -> Any:
        """The next notice of a kind; the others are passed over."""
        while not isinstance(notice := self.told.get(timeout=PATIENCE), kind):
            assert not isinstance(notice, BaseException), notice
        return notice

    def member(self, worker: str) -> Member:
        return Member(self.server.address, hello(worker), lambda: self.lost.put(worker))

    def connection(self) -> socket.socket:
        host, _, port = self.server.address.rpartition(":")
        connection = socket.create_connection((host, int(port)))
        connection.settimeout(PATIENCE)
        return connection

    def call(self, action: Callable[[Coordinator], Any]) -> Any:
        """What `action` returns in the server's thread."""
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.server.call(lambda coordinator, _: done.put(action(coordinator)))
        return done.get(timeout=PATIENCE)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(Coordinator(1, 60.0))
    yield server
    server.server.close()


def in_threads(*actions: Callable[[], Any]) -> list[Any]:
    """What each returned or raised, done at once."""
    results: list[Any] = [None] * len(actions)

    def run(number: int) -> None:
        try:
            results[number] = actions[number]()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=[number]) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results


def together(server: Server, *workers: str) -> list[Member]:
    """Members of one membership that has begun at step 0."""
    server.server.call(lambda coordinator, now: coordinator.expect(len(workers), now))
    members = [server.member(worker) for worker in workers]

    def answer() -> None:
        server.next(notices.NeedSource)
        server.server.call(lambda coordinator, now: coordinator.begin_from(Source("start", 0), now))

    forms = in_threads(answer, *(lambda member=member: member.ready(None, []) for member in members))[1:]
    assert {form.membership for form in forms} == {0}
    return members


def is_hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_members_agree_and_go_on(server: Server) -> None:
    members = together(server, "rank-0.0", "rank-1.0")
    for step in (1, 2):
        for member in members:
            member.arrive()
        votes = (lambda member=member: member.agree("sum", step, "alike") for member in members)  # noqa: B023
        assert in_threads(*votes) == [None, None]
        for member in members:
            member.after_commit()
    assert server.call(lambda coordinator: coordinator.step) == 2
    for member in members:
        member.ended("finished")
    assert {server.next(notices.WorkerEnded).worker for _ in members} == {"rank-0.0", "rank-1.0"}


def test_members_that_differ_do_not_apply_anything(server: Server) -> None:
    members = together(server, "rank-0.0", "rank-1.0")
    votes = [lambda n=n, member=member: member.agree("sum", 1, str(n)) for n, member in enumerate(members)]
    assert [type(result) for result in in_threads(*votes)] == [Dismissed, Dismissed]
    assert server.next(notices.Difference).undecided


def test_a_lost_member_ends_the_membership_for_the_others(server: Server) -> None:
    first, second, third = together(server, "rank-0.0", "rank-1.0", "rank-2.0")
    waited = threading.Event()

    def die() -> None:
        waited.wait(PATIENCE)
        third._closed = True
        third._socket.shutdown(socket.SHUT_RDWR)

    def wait_in_exchange() -> None:
        first.wait(lambda finish: waited.set())

    results = in_threads(die, wait_in_exchange, lambda: second.agree("sum", 1, "digest"))
    assert [type(result) for result in results[1:]] == [MembershipOver, MembershipOver]
    lost = server.next(notices.WorkerLost)
    assert (lost.hello.worker, lost.membership, lost.step) == ("rank-2.0", 0, 0)
    position = Position(0, Stage.SETTLED)
    forms = in_threads(lambda: first.ready(position, []), lambda: second.ready(position, []))
    assert [seat.worker for seat in forms[0].seats] == ["rank-0.0", "rank-1.0"]
    # What was said of the membership before does not touch the new one.
    first.check()


def voices(server: Server) -> tuple[Member, socket.socket]:
    """A member, and another of which only the connection is left: its machine lost its power, and no packet says so."""
    server.server.call(lambda coordinator, now: coordinator.expect(2, now))
    member, silent = server.member("rank-0.0"), server.connection()
    silent.sendall(encode(hello("rank-1.0")) + encode(Ready(None, [])))

    def answer() -> None:
        server.next(notices.NeedSource)
        server.server.call(lambda coordinator, now: coordinator.begin_from(Source("start", 0), now))

    assert len(in_threads(answer, lambda: member.ready(None, []))[1].seats) == 2
    return member, silent


def test_who_is_expelled_is_hung_up_on_and_lost_before_the_others_go_on(server: Server) -> None:
    member, silent = voices(server)
    server.server.call(lambda coordinator, now: coordinator._expel("rank-1.0", "silent", {}, now))
    with pytest.raises(MembershipOver):
        member.agree("sum", 1, "digest")
    member.ready(Position(0), [])
    member.agree("sum", 1, "digest")
    told = [server.told.get(timeout=PATIENCE)]
    while not isinstance(told[-1], notices.FirstCommit):
        told.append(server.told.get(timeout=PATIENCE))
    kinds = [notices.WorkerExpelled, notices.WorkerLost, notices.Formed, notices.FirstCommit]
    assert [type(notice) for notice in told if type(notice) in kinds][1:] == kinds
    while silent.recv(1 << 16):
        pass


def test_after_the_end_is_agreed_on_who_falls_silent_is_lost_too(server: Server) -> None:
    member, silent = voices(server)
    silent.sendall(encode(Vote(0, 0, "end", 8, "finished")))
    member.agree("end", 8, "finished")
    server.server.call(lambda coordinator, now: coordinator.tick(now + 60))
    assert server.next(notices.EndAgreed).outcome == "finished"
    assert {server.next(notices.WorkerLost).hello.worker for _ in range(2)} == {"rank-0.0", "rank-1.0"}


@pytest.mark.parametrize("words", [b"", encode(Ended("finished"))])
def test_who_is_known_to_be_dead_is_hung_up_on_after_its_last_words(server: Server, words: bytes) -> None:
    _, silent = voices(server)
    looked, found = threading.Event(), threading.Event()

    def hold(coordinator: Coordinator, now: float) -> None:
        found.set()
        looked.wait(PATIENCE)
        coordinator.died("rank-1.0")

    server.server.call(hold)
    assert found.wait(PATIENCE)
    silent.sendall(words)
    looked.set()
    while silent.recv(1 << 16):
        pass
    kind = notices.WorkerEnded if words else notices.WorkerLost
    while type(told := server.told.get(timeout=PATIENCE)) not in {notices.WorkerEnded, notices.WorkerLost}:
        pass
    assert type(told) is kind
    assert server.call(lambda coordinator: coordinator.died("rank-1.0")) is None


class Clock:
    """A clock of the server that can leap ahead, as it does for a process that was stopped."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def test_after_a_pause_of_the_driver_nobody_is_expelled(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    member, silent = voices(server)
    clock, ticked = Clock(), queue.SimpleQueue[float]()
    monkeypatch.setattr(server_module, "time", clock)

    def watch(coordinator: Coordinator) -> None:
        tick = coordinator.tick
        monkeypatch.setattr(coordinator, "tick", lambda now: (tick(now), ticked.put(now)))

    server.call(watch)
    leapt = clock.ahead = 3600.0
    while ticked.get(timeout=PATIENCE) < leapt:
        pass
    silent.sendall(encode(Vote(0, 0, "sum", 1, "digest")))
    member.agree("sum", 1, "digest")
    while not isinstance(told := server.told.get(timeout=PATIENCE), notices.FirstCommit):
        assert not isinstance(told, notices.WorkerExpelled)


def test_one_that_is_let_go_is_dismissed_with_the_commit(server: Server) -> None:
    first, second = together(server, "rank-0.0", "rank-1.0")
    server.server.call(lambda coordinator, now: coordinator.let_go("rank-1.0", "drained", now))
    assert in_threads(*(lambda m=m: m.agree("sum", 1, "alike") for m in (first, second))) == [None, None]
    with pytest.raises(Dismissed):
        second.after_commit()
    with pytest.raises(MembershipOver):
        first.after_commit()


def test_who_is_busy_says_so_now_and_then_until_the_round_is_over(server: Server) -> None:
    first, second = together(server, "rank-0.0", "rank-1.0")
    heard: queue.SimpleQueue[Busy] = queue.SimpleQueue()
    server.call(lambda coordinator: setattr(coordinator, "busy", lambda message, now: heard.put(message)))
    for _ in range(100):
        first.busy()
    assert heard.get(timeout=PATIENCE) == Busy(0, 0)
    server.call(lambda _: None)
    assert heard.qsize() < 10
    server.server.call(lambda coordinator, now: coordinator._expel("rank-1.0", "hung", {}, now))
    first._changed.wait(PATIENCE)
    with pytest.raises(MembershipOver):
        first.busy()
    del second


@pytest.mark.parametrize(
    "line",
    [
        encode(Hello("another", "rank-0.0", 0, "node", "host", 1, 1, "127.0.0.1")),
        encode(Ready(None, [])),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\n",
        b"null\n",
    ],
)
def test_who_does_not_know_the_token_is_hung_up_on(server: Server, line: bytes) -> None:
    connection = server.connection()
    connection.sendall(line)
    assert is_hung_up(connection)
    assert server.call(lambda coordinator: list(coordinator._peers)) == []


def test_a_second_worker_of_the_same_name_is_hung_up_on(server: Server) -> None:
    first, second = server.connection(), server.connection()
    first.sendall(encode(hello("rank-0.0")))
    server.next(notices.WorkerConnected)
    second.sendall(encode(hello("rank-0.0")))
    assert is_hung_up(second)
    assert server.call(lambda coordinator: list(coordinator._peers)) == ["rank-0.0"]


def test_one_that_sends_without_end_is_hung_up_on(server: Server) -> None:
    connection = server.connection()
    with pytest.raises(ConnectionError):
        connection.sendall(b"x" * (1 << 26))
    assert server.call(lambda _: True)


def test_garbage_from_a_member_is_its_loss_and_the_others_go_on(server: Server) -> None:
    first, second = together(server, "rank-0.0", "rank-1.0")
    second._closed = True
    second._socket.sendall(b"{}\n")
    assert server.next(notices.WorkerLost).hello.worker == "rank-1.0"
    with pytest.raises(MembershipOver):
        first.agree("sum", 1, "digest")


def test_messages_that_come_in_pieces_or_many_at_once_are_read(server: Server) -> None:
    connection = server.connection()
    said = (
        encode(hello("rank-0.0"))
        + encode(Ready(Position(3), []))
        + encode(Arrived(0, 0))
        + encode(Vote(0, 0, "sum", 4, "digest"))
    )
    for start in range(0, len(said), 7):
        connection.sendall(said[start : start + 7])
    assert server.next(notices.FirstCommit).step == 4
    assert connection.recv(1 << 16).count(b"\n") >= 1


def test_a_member_whose_driver_is_gone_is_told() -> None:
    server = Server(Coordinator(1, 60.0))
    server.member("rank-0.0")
    server.next(notices.WorkerConnected)
    server.server.close()
    assert server.lost.get(timeout=PATIENCE) == "rank-0.0"


def test_a_member_that_comes_when_the_run_has_ended_waits_and_is_told_that_the_driver_is_gone() -> None:
    """Being refused would be recorded as a failure of a run that went well."""
    server = Server(Coordinator(1, 60.0))
    server.server.stop()
    server.member("rank-0.1")
    assert server.lost.empty()
    server.server.close()
    assert server.lost.get(timeout=PATIENCE) == "rank-0.1"
    with pytest.raises(ConnectionRefusedError):
        server.member("rank-0.2")


def test_a_failing_coordinator_is_the_drivers_failure() -> None:
    server = Server(Coordinator(1, 60.0))
    server.server.call(lambda coordinator, now: coordinator.heard("nobody", now))
    assert isinstance(server.told.get(timeout=PATIENCE), KeyError)
    server.server.close()
