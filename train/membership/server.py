"""The coordinator's sockets: one thread in the driver that reads, decides and answers."""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from train.membership.coordinator import Coordinator
from train.membership.messages import Arrived, Busy, Ended, Hello, Message, Ready, Vote, decode, encode
from train.membership.notices import Notice

_TICK_SECONDS = 0.25
# A tick that is so late was held up: the process was stopped, or its machine asleep or swamped.
_PAUSE_SECONDS = 1.0
_READ_BYTES = 1 << 16
# A line is a few hundred bytes a worker; what sends more without a line's end is no worker of ours.
_LONGEST_LINE = 1 << 20


@dataclass
class _Connection:
    socket: socket.socket
    worker: str | None = None
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)


class CoordinatorServer:
    """Serves `coordinator` at `host` on a port of its own until `stop`; notices go into `notices`.

    Who does not know `token` is not answered. Everything the coordinator does happens in this object's thread: the
    driver reaches it through `call`.
    """

    def __init__(
        self, coordinator: Coordinator, token: str, host: str, notices: queue.SimpleQueue[Notice | BaseException]
    ) -> None:
        self._coordinator = coordinator
        self._token = token
        self._notices = notices
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server((host, 0))
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._calls: queue.SimpleQueue[Callable[[Coordinator, float], None]] = queue.SimpleQueue()
        self._connections: dict[str, _Connection] = {}
        self._closing = False
        self._next_tick = time.monotonic() + _TICK_SECONDS
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="coordinator", daemon=True)
        self._thread.start()

    def call(self, action: Callable[[Coordinator, float], None]) -> None:
        """Have `action` done with the coordinator and the time, in the server's thread."""
        self._calls.put(action)
        self._wake.send(b"\0")

    def stop(self) -> None:
        """Stop serving and close every connection: workers that still train end themselves. A second call does nothing.

        Who connects from here on waits for an answer until `close`: being refused would look like a fault.
        """
        if self._closing:
            return
        self._closing = True
        self._wake.send(b"\0")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if key.fileobj is not self._listener:
                with contextlib.suppress(OSError):
                    key.fileobj.close()  # type: ignore[union-attr]
        self._wake.close()
        self._selector.close()

    def close(self) -> None:
        """Stop, and let nobody connect any more; for when no worker is left that might."""
        self.stop()
        self._listener.close()

    def _serve(self) -> None:
        try:
            while not self._closing:
                ready = self._selector.select(max(0.0, self._next_tick - time.monotonic()))
                self._excuse_pause()
                for key, mask in ready:
                    self._handle(key, mask)
                self._excuse_pause()
                if (now := time.monotonic()) >= self._next_tick:
                    self._next_tick = now + _TICK_SECONDS
                    self._coordinator.tick(now)
                self._deliver()
        except BaseException as error:
            # Without it no round is ever committed again: the driver must know.
            self._notices.put(error)

    def _excuse_pause(self) -> None:
        """Tell the coordinator of a time in which this process did not run, before it judges anybody by the clock."""
        now = time.monotonic()
        if (late := now - self._next_tick) > _PAUSE_SECONDS:
            self._coordinator.paused(late, now)
            self._next_tick = now

    def _handle(self, key: selectors.SelectorKey, mask: int) -> None:
        if key.fileobj is self._listener:
            accepted, _ = self._listener.accept()
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(accepted, selectors.EVENT_READ, _Connection(accepted))
        elif key.fileobj is self._woken:
            self._woken.recv(_READ_BYTES)
            while not self._calls.empty():
                self._calls.get()(self._coordinator, time.monotonic())
        elif key.data.socket.fileno() < 0:
            return  # hung up on since it was found ready
        elif mask & selectors.EVENT_WRITE:
            self._send(key.data)
        else:
            self._read(key.data)
        self._deliver()

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_READ_BYTES)
            if not data or len(connection.received) > _LONGEST_LINE:
                raise ConnectionError
            connection.received += data
            *lines, rest = connection.received.split(b"\n")
            connection.received = bytearray(rest)
            for line in lines:
                self._take(connection, decode(bytes(line)))
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._drop(connection)

    def _take(self, connection: _Connection, message: Message) -> None:
        """One message. Raises ValueError for one that does not belong here."""
        coordinator, worker, now = self._coordinator, connection.worker, time.monotonic()
        if worker is None:
            if not isinstance(message, Hello) or message.token != self._token or message.worker in self._connections:
                raise ValueError("who is this?")
            connection.worker = message.worker
            self._connections[message.worker] = connection
            coordinator.hello(message, now)
            return
        coordinator.heard(worker, now)
        if isinstance(message, Ready):
            coordinator.ready(worker, message, now)
        elif isinstance(message, Arrived):
            coordinator.arrived(worker, message, now)
        elif isinstance(message, Busy):
            coordinator.busy(message, now)
        elif isinstance(message, Vote):
            coordinator.vote(worker, message, now)
        elif isinstance(message, Ended):
            coordinator.ended(worker, message)

    def _deliver(self) -> None:
        self._send_all()
        while self._coordinator.hang_ups:
            if connection := self._connections.get(self._coordinator.hang_ups.pop()):
                self._hang_up(connection)
            self._send_all()
        notices, self._coordinator.notices = self._coordinator.notices, []
        for notice in notices:
            self._notices.put(notice)

    def _send_all(self) -> None:
        outbox, self._coordinator.outbox = self._coordinator.outbox, []
        for worker, message in outbox:
            if connection := self._connections.get(worker):
                connection.unsent += encode(message)
                self._send(connection)

    def _send(self, connection: _Connection) -> None:
        try:
            sent = connection.socket.send(connection.unsent)
            del connection.unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            return  # reading from it will tell
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        self._selector.modify(connection.socket, events, connection)

    def _hang_up(self, connection: _Connection) -> None:
        """End a connection, after what has come over it: a worker's last words tell an end in order from a loss."""
        self._read(connection)
        if connection.socket.fileno() >= 0:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        if connection.worker is not None:
            del self._connections[connection.worker]
            self._coordinator.disconnected(connection.worker, time.monotonic())
