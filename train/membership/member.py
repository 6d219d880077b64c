"""A worker's side of the membership: it votes, and learns at once when the membership is over."""

from __future__ import annotations

import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from recorder.errors import RunFailed
from train.membership.messages import (
    Action,
    Arrived,
    Busy,
    Commit,
    Dismiss,
    Ended,
    Form,
    Hello,
    Message,
    Ping,
    Position,
    Ready,
    Reform,
    Vote,
    decode,
    encode,
)
from train.step.quorum import Subject

PING_SECONDS = 0.5
# A driver whose network is gone acknowledges nothing.
_UNACKNOWLEDGED_MS = 15_000


class MembershipOver(RunFailed):
    """The membership ended. What was being computed is dropped; the state is that of the last commit.

    `told` by the coordinator, or found here. With `discard` the state itself is not to be trusted.
    """

    def __init__(self, reason: str, told: bool = False, discard: bool = False) -> None:
        super().__init__(reason)
        self.told = told
        self.discard = discard


class Dismissed(RunFailed):
    """This worker is not needed any more, and leaves with the state of the last commit."""


class Member:
    """The connection to the coordinator at `address`; a thread reads it, and pings.

    `on_lost_driver` is called in that thread when the connection ends: by default the process ends, since nothing it
    computes from then on would be committed. Raises OSError when there is nobody at `address`.
    """

    def __init__(self, address: str, hello: Hello, on_lost_driver: Callable[[], object] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.worker = hello.worker
        self._on_lost_driver = on_lost_driver or _exit
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._form: Form | None = None
        self._round = 0
        self._ending: Reform | None = None
        self._action: Action = "go on"
        self.save_wanted = False
        self._closed = False
        self._said_busy = 0.0
        self._changed = threading.Event()
        self._send(hello)
        threading.Thread(target=self._read, name="membership", daemon=True).start()

    @property
    def number(self) -> int:
        """The number of the present membership."""
        assert self._form is not None
        return self._form.membership

    def ready(self, position: Position | None, offers: list[int]) -> Form:
        """Wait for the next membership this worker is in. Raises Dismissed."""
        self._form = None
        self._send(Ready(position, offers))
        while True:
            message = self._inbox.get()
            if isinstance(message, Form):
                self._form, self._round = message, 0
                return message
            if isinstance(message, Dismiss):
                raise Dismissed(message.reason)
            # A Reform was dealt with before: a state is discarded by a vote, in which all members wait for its end.

    def arrive(self) -> None:
        """Tell that this worker is about to exchange. Raises MembershipOver."""
        self.check()
        self._send(Arrived(self.number, self._round))

    def busy(self) -> None:
        """Tell, at most twice a second, that what the others wait for is getting on. Raises MembershipOver."""
        self.check()
        if (now := time.monotonic()) - self._said_busy >= PING_SECONDS:
            self._said_busy = now
            self._send(Busy(self.number, self._round))

    def agree(self, subject: Subject, step: int, digest: str) -> None:
        """Vote, and return when all members voted alike: only then may the result be applied.

        Raises MembershipOver when the round is dropped, and Dismissed when the run is over.
        """
        self._send(Vote(self.number, self._round, subject, step, digest))
        while True:
            message = self._inbox.get()
            if isinstance(message, Dismiss):
                raise Dismissed(message.reason)
            if isinstance(message, Reform) and message.membership == self.number:
                self._leave(message)
            if isinstance(message, Commit) and message.membership == self.number:
                self._round += 1
                self._action = message.action
                self.save_wanted = message.save
                return

    def after_commit(self) -> None:
        """Call it when the commit is applied and recorded: raises MembershipOver or Dismissed if this was the last."""
        if self._action == "leave":
            raise Dismissed("asked to leave")
        if self._action == "reform":
            raise MembershipOver("the membership changes", told=True)

    def check(self) -> None:
        """Raise MembershipOver if the coordinator has ended the membership."""
        ending = self._ending
        if ending is not None and self._form is not None and ending.membership == self._form.membership:
            self._leave(ending)

    def wait(self, done: Callable[[Callable[[], None]], None]) -> None:
        """Wait until `done` calls what it is given, from any thread. Raises MembershipOver as soon as that is known."""
        finished = threading.Event()

        def finish() -> None:
            finished.set()
            self._changed.set()

        done(finish)
        while not finished.is_set():
            self.check()
            self._changed.wait()
            self._changed.clear()

    def ended(self, outcome: str) -> None:
        """Tell that this worker has done its work: it may hang up, and losing the driver is nothing to it any more."""
        self._closed = True
        self._send(Ended(outcome))

    def _leave(self, ending: Reform) -> NoReturn:
        raise MembershipOver("the coordinator ended the membership", told=True, discard=ending.discard)

    def _send(self, message: Message) -> None:
        try:
            with self._sending:
                self._socket.sendall(encode(message))
        except OSError:
            self._on_lost_driver()
            raise Dismissed("the driver is gone") from None

    def _read(self) -> None:
        received = b""
        try:
            while True:
                if not select.select([self._socket], [], [], PING_SECONDS)[0]:
                    self._send(Ping())
                    continue
                data = self._socket.recv(1 << 16)
                if not data:
                    break
                *lines, received = (received + data).split(b"\n")
                for line in lines:
                    self._take(decode(line))
        except (OSError, Dismissed):
            pass
        if not self._closed:
            self._on_lost_driver()

    def _take(self, message: Message) -> None:
        self._inbox.put(message)
        if isinstance(message, Reform):
            self._ending = message
            self._changed.set()


def _exit() -> None:
    os._exit(1)
