"""Pushing a run to a DVC remote while it runs: in the background, retried, and going on where an earlier attempt ended.

A remote that is slow, dead or comes and goes neither slows nor fails training, and keeps the end of a run, once it is
sealed, for `PATIENCE` seconds at most. What could not be pushed is said, in the ledger and at the end, with the command
that does it later.
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
# How long a run that has ended waits for what is left to push, in seconds, and how long when no byte goes.
PATIENCE, _STALLED_SECONDS = 300.0, 20.0
# How often it says what is left meanwhile, and looks whether it is to hurry.
_TELL_SECONDS, _LOOK_SECONDS = 10.0, 0.1

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

    def state(self) -> dict[str, Any]:
        """What was done, how many objects are waiting, and why where that is known. Does not wait."""
        with self._condition:
            waiting = len(self._waiting)
            reason = (self._failure or None) if waiting else None
            return {"remote": self.name, **self._totals, "waiting": waiting, "reason": reason}

    def settle(
        self,
        seconds: float = PATIENCE,
        is_hurried: Callable[[], bool] = lambda: False,
        tell: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Wait at most `seconds` for what is waiting while it moves, and not when `is_hurried`. The `state` then.

        A remote that fails or stands still is not waited for. `tell` is called now and then with the objects and the
        bytes that are left.
        """
        with self._condition:
            self._moved = began = told = time.monotonic()
            while self._waiting and not self._failing and self._thread.is_alive():
                now = time.monotonic()
                if given_up := self._given_up(now - began, seconds, now - self._moved, is_hurried()):
                    self._failure = given_up
                    break
                if tell is not None and now - told >= _TELL_SECONDS:
                    told = now
                    tell(len(self._waiting), sum(size for _, size in self._waiting))
                self._condition.wait(_LOOK_SECONDS)
        return self.state()

    def _given_up(self, waited: float, patience: float, stalled: float, is_hurried: bool) -> str | None:
        """Why nothing is waited for any more."""
        if is_hurried:
            return "the run was told to stop, and did not wait for it"
        if stalled >= _STALLED_SECONDS:
            return f"nothing moved for {_STALLED_SECONDS:.0f} s"
        return f"it takes longer than {patience:.0f} s" if waited >= patience else None

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
