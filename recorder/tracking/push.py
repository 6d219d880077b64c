"""Pushing a run to a DVC remote while it runs: in the background, retried, and going on where an earlier attempt ended.

A remote that is slow, dead or comes and goes neither slows nor fails training. What could not be pushed is said, in the
ledger and at the end, with the command that does it later.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recorder.errors import RecorderError
from recorder.ledger import events
from recorder.tracking.dvc_repository import DvcRepository, ObjectStore
from recorder.tracking.tree import is_directory

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# An upload of which no byte went for so long does not keep a run that has ended.
_STALLED_SECONDS = 20.0

Record = Callable[..., None]


class Pusher:
    """Pushes objects of the cache of the repository at `root` to the remote `name`, each once, in order.

    `record` takes an event's type and fields; `pushed` is told the name of each object that is there. Both are called
    in the pushing thread. None of the methods raises, and none waits but `settle`, as it says.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        record: Record,
        pushed: Callable[[str], None],
        open_store: Callable[[DvcRepository, str], ObjectStore] = DvcRepository.remote,
    ) -> None:
        self.name = name
        self._root = root
        self._record = record
        self._pushed = pushed
        self._open_store = open_store
        self._waiting: deque[tuple[str, int]] = deque()
        self._seen: set[str] = set()
        self._condition = threading.Condition()
        self._stopping = False
        self._failing = False
        self._failure = ""
        self._moved = time.monotonic()
        self._totals = {"objects": 0, "bytes": 0, "found": 0, "gone": 0}
        self._thread = threading.Thread(target=self._work, name="recorder-push", daemon=True)
        self._thread.start()

    def add(self, objects: Mapping[str, int]) -> None:
        """Push these objects, by name with their sizes; a directory's own comes after what it lists."""
        with self._condition:
            for name, size in sorted(objects.items(), key=lambda item: is_directory(item[0])):
                if name not in self._seen:
                    self._seen.add(name)
                    self._waiting.append((name, size))
            self._condition.notify_all()

    def settle(self) -> dict[str, Any]:
        """Wait for what is waiting as long as it moves: not for a remote that fails or stands still. What was done."""
        with self._condition:
            self._moved = time.monotonic()
            while self._waiting and not self._failing and self._thread.is_alive():
                left = self._moved + _STALLED_SECONDS - time.monotonic()
                if left <= 0:
                    self._failure = self._failure or f"nothing moved for {_STALLED_SECONDS:.0f} s"
                    break
                self._condition.wait(left)
            waiting = len(self._waiting)
            return {
                "remote": self.name,
                **self._totals,
                "waiting": waiting,
                "reason": self._failure if waiting else None,
            }

    def stop(self) -> None:
        """End. An upload that is under way is left to itself: it is whole there or not there at all."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(_FIRST_PAUSE)

    def _work(self) -> None:
        pause = _FIRST_PAUSE
        store: ObjectStore | None = None
        while (item := self._next()) is not None:
            try:
                if store is None:
                    repository = DvcRepository(self._root)
                    store = self._open_store(repository, self.name)
                self._push(repository, store, *item)
            except Exception as error:
                self._failed(error)
                self._pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                # Its connections may be what is broken.
                store = None
            else:
                pause = _FIRST_PAUSE
                self._done()

    def _next(self) -> tuple[str, int] | None:
        with self._condition:
            while not self._waiting and not self._stopping:
                self._condition.wait()
            return None if self._stopping else self._waiting[0]

    def _push(self, repository: DvcRepository, store: ObjectStore, name: str, size: int) -> None:
        if store.size(name) == size:
            self._totals["found"] += 1
        else:
            source = repository.object_path(name)
            if self._is_gone(name, source):
                return
            store.upload(name, source, self._progress)
            self._totals["objects"] += 1
            self._totals["bytes"] += size
        self._pushed(name)

    def _is_gone(self, name: str, source: Path) -> bool:
        """Whether its checkpoint was removed before its turn came; saved again, it has another turn."""
        # `add` is called when the object is there: it comes before this look, or finds it not seen.
        with self._condition:
            if source.exists():
                return False
            self._seen.discard(name)
            self._totals["gone"] += 1
            return True

    def _done(self) -> None:
        with self._condition:
            self._waiting.popleft()
            recovered, self._failing = self._failing, False
            self._moved = time.monotonic()
            self._condition.notify_all()
        if recovered:
            self._record(events.PUSH_RESUMED, remote=self.name)

    def _failed(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, RecorderError) else repr(error)
        with self._condition:
            said, self._failing, self._failure = self._failing, True, reason
            waiting = len(self._waiting)
            self._condition.notify_all()
        if not said:
            self._record(events.PUSH_FAILED, remote=self.name, reason=reason, waiting=waiting)

    def _pause(self, seconds: float) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping, seconds)

    def _progress(self) -> None:
        self._moved = time.monotonic()
