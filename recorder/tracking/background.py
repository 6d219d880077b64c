"""Tracking beside training: a thread of the driver that keeps the bundle's `.dvc` file up with what closes.

Nothing that goes wrong here reaches training. It is an event, `tracking.failed`, and one line; the files wait, and the
next checkpoint or the seal tries again.
"""

from __future__ import annotations

import os
import queue
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from recorder.bundle import layout
from recorder.bundle.files import FileDigest, digest_file
from recorder.bundle.manifest import bundle_files
from recorder.errors import MachineError, RecorderError, RecordingError, UsageError
from recorder.ledger import events
from recorder.tracking.bundle_tracker import BundleTracker, Tracked
from recorder.tracking.dvc_repository import DvcRepository, check_installed, find_repository
from recorder.tracking.open_part import OpenPart
from recorder.tracking.pointer import SUFFIX
from recorder.tracking.push import Pusher
from recorder.tracking.read_back import ReadBack

Mode = Literal["auto", True, False]
Say = Callable[[str], None]

# How long DVC's lock is waited for, in seconds: while training goes on, and for the seal, which then does without it.
_PATIENCE, _LAST_PATIENCE = 10.0, 30.0
# And after a signal, or in the temporary copy of an experiment: `dvc exp run --run-all` holds the lock to its end.
_SHORT_PATIENCE = 1.0
# How long what is left to read back may keep a run that has ended, in seconds.
_READ_BACK_SECONDS = 2.0
# The notice of a file that nobody writes any more.
_CLOSED = "closed"
# Files below these are complete only once an event says so.
_GROWING = (layout.LEDGER, layout.METRICS, layout.SYSTEM_METRICS, layout.LOGS, layout.CHECKPOINTS)

_STOP: Any = object()


@dataclass(frozen=True)
class TrackingOptions:
    """What is to be done with the run in DVC: `recorder.dvc`, `recorder.push` (a remote) and `recorder.git_commit`.

    With `stage` the `.dvc` file is staged in git, as DVC does with its stages' files. `workspace` is the temporary copy
    of the repository in which an experiment runs: there it is staged, so that the experiment has it.
    """

    mode: Mode = "auto"
    push: str | None = None
    git_commit: bool = False
    stage: bool = False
    workspace: Path | None = None


class TrackedRun(Protocol):
    """What tracking needs of a run."""

    path: Path

    def event(self, type: str, /, **fields: Any) -> None:
        """Append an event to the ledger."""

    def known_digests(self) -> dict[str, FileDigest]:
        """Digests of closed files, taken while they were written."""


def open_tracking(folder: Path, options: TrackingOptions, say: Say) -> BackgroundTracking | None:
    """The tracking of bundles in `folder`; None where it is not wanted, or not possible and only wanted if it is.

    Raises UsageError when it is wanted and `folder` is in no DVC repository, or there is no such remote, and
    MachineError when DVC is not installed.
    """
    if options.mode is False:
        if options.push is not None:
            raise UsageError(f"recorder.push={options.push} needs tracking: leave out recorder.dvc=false")
        return None
    root = find_repository(folder)
    wanted = "recorder.dvc=true" if options.mode is True else f"recorder.push={options.push}" if options.push else None
    if root is None:
        if wanted is not None:
            raise UsageError(
                f"{wanted}, but {folder} is in no DVC repository: run `dvc init` in the project's folder, or "
                "leave it out"
            )
        return None
    try:
        check_installed()
    except MachineError as error:
        if wanted is not None:
            raise
        say(f"not tracked in DVC: {error}")
        return None
    if options.push is not None:
        # Its name is checked now, before anything is trained; whether it answers shows later.
        repository = DvcRepository(root)
        repository.remote(options.push)
        repository.close()
    return BackgroundTracking(root, options, say)


class BackgroundTracking:
    """Tracks one run in the DVC repository at `root`, from `begin` to `seal` or `stop`; none of its methods raises.

    `observe` takes the run's notices from any thread and returns at once. All of DVC happens in one thread. While
    `is_hurried` says so, for example after SIGTERM, the end of the run waits for nothing.
    """

    def __init__(self, root: Path, options: TrackingOptions, say: Say) -> None:
        self._root = root
        self._options = options
        self._say = say
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._run: TrackedRun | None = None
        self._tracker: BundleTracker | None = None
        self._read_back: ReadBack | None = None
        self._pusher: Pusher | None = None
        self._closed: dict[str, FileDigest] = {}
        self._gone: list[str] = []
        self._damaged: list[str] = []
        self._said: set[str] = set()
        self._in_ledger = True
        self._abandoned = False
        self.is_hurried: Callable[[], bool] = lambda: False

    def begin(self, run: TrackedRun) -> None:
        """Track what `run` has by now, and from here on what closes."""
        self._run = run
        self._thread = threading.Thread(target=self._work, name="recorder-tracking", daemon=True)
        self._thread.start()

    def observe(self, kind: str, content: dict[str, Any]) -> None:
        """Take one notice of the run."""
        if kind in {_CLOSED, events.CHECKPOINT_SAVED, events.CHECKPOINT_REMOVED}:
            self._queue.put((kind, content))

    def finish(self) -> None:
        """Do what is waiting, while events can still be recorded: the ledger ends next."""
        if self._thread is not None:
            self._queue.put(_STOP)
            self._thread.join()
            self._thread = None
        if self._pusher is not None and not self._abandoned:
            # The remote is waited for after the seal.
            self._record(events.PUSH_ENDED, **self._pusher.state())
        self._in_ledger = False

    def seal(self, files: Mapping[str, FileDigest]) -> None:
        """Track the sealed bundle, exactly `files`, and stage or commit its `.dvc` file in git where that is wanted."""
        if not self._guarded(lambda: self._seal(files)):
            # Nothing is open any more, and a `dvc add` by hand must see it all.
            self._guarded(OpenPart(self._must_run().path).show)
        self._end_reading(_READ_BACK_SECONDS)
        if self._pusher is not None:
            self._finish_pushing(self._pusher)

    def stop(self) -> None:
        """Leave everything as it is: the run was given up, and a resume goes on from here."""
        self._abandoned = True
        self.finish()
        self._end_reading(0)
        if self._pusher is not None:
            self._pusher.stop()

    def _finish_pushing(self, pusher: Pusher) -> None:
        """The bundle is sealed: nothing is lost by a remote that is waited for, or by one that is not."""

        def tell(objects: int, size: int) -> None:
            self._say(
                f"{objects} objects, {size / 1e6:.0f} MB, still go to the remote {pusher.name}; the run is sealed"
            )

        left = pusher.settle(is_hurried=self.is_hurried, tell=tell)
        pusher.stop()
        if left["waiting"]:
            self._say(
                f"{left['waiting']} objects are not on the remote {left['remote']}: {left['reason']}; "
                f"`dvc push --remote {left['remote']} {self._for_dvc(SUFFIX)}` sends them"
            )

    def _end_reading(self, seconds: float) -> None:
        if self._read_back is not None:
            self._read_back.finish(seconds)

    def _work(self) -> None:
        self._guarded(self._begin)
        is_due = False
        while (item := self._queue.get()) is not _STOP:
            self._take(item)
            # Segments close just before the notice of the checkpoint that closes them: it is all one update. What came
            # while the last one waited for DVC's lock is one too.
            is_due |= item[0] == events.CHECKPOINT_SAVED
            if is_due and self._queue.empty() and not self._abandoned:
                self._guarded(self._update)
                is_due = False
        if not self._abandoned:
            self._guarded(self._update)

    def _take(self, item: tuple[str, dict[str, Any]]) -> None:
        kind, fields = item
        if kind == _CLOSED:
            self._closed[fields["path"]] = FileDigest(fields["size"], fields["blake3"], fields["md5"])
        elif kind == events.CHECKPOINT_SAVED:
            files = {f"{fields['path']}/{name}": FileDigest(**record) for name, record in fields["files"].items()}
            self._closed |= files
        else:
            self._closed = {
                path: digests for path, digests in self._closed.items() if not path.startswith(f"{fields['path']}/")
            }
            self._gone.append(fields["path"])
            if fields.get("kept_as") is not None:
                self._damaged.append(fields["path"])

    def _begin(self) -> None:
        """Everything that is closed by now: what the recorder knows, and what earlier attempts captured."""
        run = self._must_run()
        known = run.known_digests()
        tracker = self._open()
        tracker.hide_open_part()
        rest = [path for path in bundle_files(run.path) if path not in known and not path.startswith((*_GROWING, "."))]
        self._closed = known | {path: digest_file(run.path / path) for path in rest} | self._closed
        run.event(events.TRACKING_STARTED, pointer=self._relative(tracker.pointer), link=tracker.link_type)
        if tracker.link_type == "copy":
            self._tell("the file system cannot link into DVC's cache: each file is kept twice (see cache.type of DVC)")
        if mend := tracker.prepare_folder():
            self._tell(mend)
        self._update()

    def _update(self) -> None:
        if self._closed or self._gone:
            tracker = self._open()
            if self.is_hurried():
                tracker.patience = _SHORT_PATIENCE
            tracked = tracker.update(self._closed, self._gone, self._damaged)
            self._closed, self._gone, self._damaged = {}, [], []
            self._after(tracked)

    def _seal(self, files: Mapping[str, FileDigest]) -> None:
        tracker = self._open()
        if not tracker.adds_unlocked and not self.is_hurried():
            tracker.patience = _LAST_PATIENCE
        # There is no next time. Whoever holds the lock for so long pushes, collects or runs experiments elsewhere: what
        # is added beside them is whole at any moment, and nothing is taken out.
        tracker.adds_unlocked = True
        self._after(tracker.seal(files))
        if self._options.workspace is not None:
            tracker.stage_in(self._options.workspace)
        elif self._options.git_commit:
            tracker.stage(f"Track run {tracker.bundle.name}")
        elif (self._options.stage and self._repository.has_git) or self._repository.autostage:
            tracker.stage(None)

    def _after(self, tracked: Tracked) -> None:
        """Check on disk what is tracked now, and push it."""
        if self._read_back is None:
            bundle, objects = self._open().bundle, self._repository.object_path
            self._read_back = ReadBack(bundle, objects, self._report_damage)
        self._read_back.add(tracked.entries)
        if self._options.push is not None:
            if self._pusher is None:
                self._record(events.PUSH_STARTED, remote=self._options.push)
                self._pusher = Pusher(self._root, self._options.push, self._record_push, self._keep)
            directory = self._repository.object_path(tracked.object)
            sizes = {digests.md5: digests.size for digests in tracked.entries.values()}
            self._pusher.add(sizes | {tracked.object: directory.stat().st_size})

    def _keep(self, name: str) -> None:
        """What others may have fetched stays in the cache too."""
        if self._tracker is not None:
            self._tracker.keep(name)

    def _record_push(self, type: str, **fields: Any) -> None:
        if type == events.PUSH_FAILED:
            self._say(f"the remote {fields['remote']} takes nothing for now, training goes on: {fields['reason']}")
        self._record(type, **fields)

    def _report_damage(self, path: str, place: str, reason: str) -> None:
        where = "" if place == "bundle" else "its object in DVC's cache: "
        self._say(f"DAMAGED: {path}: {where}{reason}")
        self._record(events.OBJECT_DAMAGED, reason=reason, path=path, place=place)

    def _open(self) -> BundleTracker:
        if self._tracker is None:
            self._repository = DvcRepository(self._root)
            self._tracker = BundleTracker(self._repository, self._must_run().path, _PATIENCE, self._tell)
            if self._options.workspace is not None:
                self._tracker.adds_unlocked, self._tracker.patience = True, _SHORT_PATIENCE
        return self._tracker

    def _guarded(self, action: Callable[[], None]) -> bool:
        """Whether it went well. Tracking is never a reason for training to end."""
        try:
            action()
            return True
        except RecorderError as error:
            self._failed(str(error))
        except OSError as error:
            self._failed(f"{error.filename or 'the cache'}: {error.strerror or error}")
        except Exception as error:
            self._failed(repr(error))
        return False

    def _failed(self, reason: str) -> None:
        """Say it once for each reason; the seal's failure is final, and mended by hand."""
        if not self._in_ledger:
            name = self._must_run().path.name
            self._say(f"not tracked in DVC: {reason}; `dvc add {self._for_dvc()}` tracks {name} later")
        elif reason not in self._said:
            self._said.add(reason)
            self._say(f"not tracked in DVC for now: {reason}")
            self._record(events.TRACKING_FAILED, reason=reason)

    def _tell(self, text: str) -> None:
        self._say(text)
        self._record(events.TRACKING_NOTED, reason=text)

    def _record(self, type: str, **fields: Any) -> None:
        if self._in_ledger:
            try:
                self._must_run().event(type, **fields)
            except RecordingError:
                # The run is being closed without us, or its disk is full, which is said elsewhere.
                self._in_ledger = False

    def _must_run(self) -> TrackedRun:
        assert self._run is not None, "begin comes first"
        return self._run

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _for_dvc(self, suffix: str = "") -> str:
        """The bundle, or the file beside it, for a command in the current folder, or in the root if called outside."""
        path, here = self._must_run().path.resolve(), Path.cwd()
        outside = self._options.workspace is not None or not here.is_relative_to(self._root)
        return shlex.quote(os.path.relpath(path, self._root if outside else here) + suffix)
