"""Run: the one writer of a bundle, from `create` or `resume` to `close`.

    run = Run.create(Path("runs"), run_id="demo-1", name="demo", seed=1, command=sys.argv)
    with run:
        run.begin_attempt()
        worker = run.worker()                      # in the training process; `rank-0` unless told otherwise
        worker.log({"accuracy": 0.5})
        worker.step(1, loss=2.0)
        run.event("note", text="...")
        worker.close()
        run.close("finished")

A background thread collects what workers put into the attempt's spool folder (see `recorder.ledger.collector`), takes
system metrics, and closes segments at each checkpoint. Its failure is never silent: `check` and `close` raise it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from recorder import __version__
from recorder.attempt import AttemptWriter
from recorder.bundle import layout
from recorder.bundle.alterations import read_alterations
from recorder.bundle.files import FileDigest, remove_temporaries, write_file
from recorder.bundle.find import LATEST
from recorder.bundle.manifest import archive_manifest, build_manifest, previous_root, read_manifest, write_manifest
from recorder.canonical import readable_json, utc_text
from recorder.errors import BundleError, RecorderError, RecordingError, RunNotFound, UsageError
from recorder.ledger import events
from recorder.ledger.ledger import read_events
from recorder.lock import RunLock
from recorder.mailbox import Mailbox
from recorder.recovery import fence, recover_attempt
from recorder.spool_folder import remove_spool_folders, spool_folder
from recorder.worker import WorkerRecorder

Observer = Callable[[str, dict[str, Any]], None]
Sampler = Callable[[], dict[str, float]]

_POLL_SECONDS = 0.2


def spool_root(configured: str | None = None) -> Path:
    """The node-local folder in which records wait: `configured`, or one in the temporary folder of this user."""
    return Path(configured).resolve() if configured else Path(tempfile.gettempdir()) / f"run-recorder-{os.getuid()}"


class Tracking(Protocol):
    """What keeps the bundle in DVC: see `recorder.tracking.background`. None of its methods raises."""

    def observe(self, kind: str, content: dict[str, Any], /) -> None:
        """Take a notice, from any thread."""

    def begin(self, run: Run, /) -> None:
        """Begin with what is closed already."""

    def finish(self) -> None:
        """Do what is waiting; the ledger ends next."""

    def seal(self, files: Mapping[str, FileDigest], /) -> None:
        """Take the whole sealed bundle."""

    def stop(self) -> None:
        """Leave everything as it is."""


class Run:
    """The one writer of the bundle at `path`; made by `create` or `resume`, ended by `close`.

    Raises RecordingError when the record cannot be written, UsageError when another process writes this run.
    """

    def __init__(self, path: Path, lock: RunLock, attempt: int, spools: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self.id = path.name
        self.attempt = attempt
        self.spool_folder = spool_folder(spools, path, attempt)
        self._spools = spools
        self._lock = lock
        self._clock = clock
        self._is_open = True
        self._stop = threading.Event()
        self._polling = threading.Lock()
        self._thread: threading.Thread | None = None
        self._collector_cpu_seconds = 0.0
        self._failure: RecorderError | None = None
        self._sampler: Sampler | None = None
        self._sample_seconds = 1.0
        self._previous_root: str | None = None
        self._tracking: Tracking | None = None
        self.observers: list[Observer] = []
        self.writer = AttemptWriter(path, attempt, self.spool_folder, clock, self._notify)

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        run_id: str,
        files: Mapping[str, bytes] | None = None,
        spools: Path | None = None,
        clock: Callable[[], float] = time.time,
        **identity: Any,
    ) -> Self:
        """Begin a new bundle `root/run_id`: `files` (bundle path to content) are in it before the first event.

        `identity` goes into run.json: name, command, seed, determinism class, parent and whatever else names the run.
        Raises UsageError when the folder exists: an existing run is resumed or left alone, never overwritten. Raises
        RecordingError, and leaves no folder, when the record cannot be begun.
        """
        if not layout.is_run_id(run_id) or run_id == LATEST:
            raise UsageError(
                f"run id {run_id!r} is not allowed: letters, digits, '_', '.' and '-', at most 96, and not {LATEST!r}"
            )
        lock, path = RunLock(root, run_id), root / run_id
        if path.exists():
            lock.release()
            raise UsageError(
                f"run {run_id} exists already; resume it with run.resume={run_id} or choose another run.id"
            )
        document = {"format": layout.FORMAT, "id": run_id, "created": utc_text(clock()), "recorder": __version__}
        try:
            write_file(path / layout.RUN, readable_json(identity | document))
            run = cls(path, lock, 1, spools or spool_root(), clock)
            run.writer.ledger.append(events.RUN_STARTED, {"files": run.writer.put_files(files or {})})
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            lock.release()
            raise
        return run

    @classmethod
    def resume(cls, path: Path, *, spools: Path | None = None, clock: Callable[[], float] = time.time) -> Self:
        """Go on with an existing bundle as its next attempt.

        What the earlier attempt left in its spools is collected first, its living processes are killed, and an earlier
        seal is kept among the addenda. Raises UsageError while the earlier attempt is still being written.
        """
        if not (path / layout.RUN).is_file():
            raise RunNotFound(f"{path} is no bundle: it has no {layout.RUN}")
        if read_alterations(path).edits:
            raise UsageError(f"{path.name} is a redacted copy and cannot go on; resume the original, or fork this one")
        lock = RunLock(path.parent, path.name)
        spools = spools or spool_root()
        try:
            last = max((event["attempt"] for event in read_events(path)), default=0)
            if last == 0:
                raise BundleError(f"{path.name} ended before its first event and cannot be resumed; delete its folder")
            if not archive_manifest(path):
                remove_temporaries(path)
                recover_attempt(path, last, spool_folder(spools, path, last), clock)
            run = cls(path, lock, last + 1, spools, clock)
            run._previous_root = previous_root(path)
        except BaseException:
            lock.release()
            raise
        return run

    def begin_attempt(self, **fields: Any) -> None:
        """Record the start of this attempt and begin to collect."""
        self.writer.ledger.append(events.ATTEMPT_STARTED, {"previous_root": self._previous_root, **fields})
        self.spool_folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._collect, name="recorder-collector", daemon=True)
        self._thread.start()

    def worker(self, origin: str = "rank-0", incarnation: int = 0, rank: int = 0, workers: int = 1) -> WorkerRecorder:
        """A recorder for this process that writes into this attempt's spool folder."""
        return WorkerRecorder(self.spool_folder, origin, incarnation, rank, workers)

    def event(self, type: str, /, **fields: Any) -> None:
        """Append an event to the ledger now."""
        self.writer.add_event(type, fields)

    def sample_system(self, sampler: Sampler, seconds: float) -> None:
        """Take a row of system metrics every `seconds`."""
        self._sampler, self._sample_seconds = sampler, seconds

    def track(self, tracking: Tracking) -> None:
        """Keep the bundle in DVC while it is written and when it is sealed; call it once, after `begin_attempt`."""
        self._tracking = tracking
        self.observers.append(tracking.observe)
        tracking.begin(self)

    def known_digests(self) -> dict[str, FileDigest]:
        """Digests of closed files by bundle path, taken while they were written."""
        return self.writer.known_digests()

    def request_stop(self, reason: str) -> None:
        """Ask this attempt's workers to save a checkpoint and stop at the next step boundary."""
        Mailbox(self.spool_folder).request_stop(reason)

    def drain(self) -> None:
        """Collect everything that is whole by now. Raises RecorderError when that fails, and from then on always."""
        self.check()
        with self._noting_failure(), self._polling:
            while self.writer.collector.poll():
                pass
        self.check()

    def settle(self, spare: Collection[int] = ()) -> None:
        """Kill workers of this attempt that still live, collect all they left, and settle their checkpoints.

        A checkpoint that was committed is recorded, one that was cut off is removed. Call it before going on from a
        checkpoint. Processes whose ids are in `spare` have not begun to train, and are left alone.
        """
        for process in fence(self.spool_folder, spare):
            self.event(events.ATTEMPT_FENCED, **process)
        self.complete_rows()
        self.writer.settle_checkpoints(spare)

    def complete_rows(self, before: int | None = None) -> None:
        """Record the steps of memberships `before` this one (None: of all) as they are: no worker will add to them."""
        self.drain()
        with self._noting_failure(), self._polling:
            self.writer.collector.flush(before)
        self.check()

    def check(self) -> None:
        """Raise the error that stopped collecting, if one did."""
        if self._failure is not None:
            raise self._failure

    def close(self, outcome: str, **fields: Any) -> dict[str, Any]:
        """End the attempt and the run with `outcome` (finished, interrupted, failed), seal, and return the manifest.

        Every worker must have ended: what they left is collected to the last byte before the seal.
        """
        self._stop_collecting()
        self.check()
        if self._tracking is not None:
            self._tracking.finish()
        fields = {"outcome": outcome, "collector_cpu_seconds": self._collector_cpu_seconds, **fields}
        self.writer.finish(events.ATTEMPT_ENDED, **fields)
        self.writer.close(outcome)
        manifest = build_manifest(
            self.path,
            outcome=outcome,
            sealed=utc_text(self._clock()),
            known=self.writer.known_digests(),
            previous_root=self._previous_root,
        )
        digests = write_manifest(self.path, manifest)
        if self._tracking is not None:
            files = {name: FileDigest(**record) for name, record in manifest["files"].items()}
            self._tracking.seal(files | {layout.MANIFEST: digests})
        remove_spool_folders(self._spools, self.path)
        self._is_open = False
        self._lock.release()
        return manifest

    def abandon(self) -> None:
        """Stop writing and leave the bundle open, as a kill would; everything recorded stays for a resume."""
        self._is_open = False
        self._stop_collecting()
        if self._tracking is not None:
            self._tracking.stop()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._is_open:
            self.abandon()

    def _notify(self, kind: str, content: dict[str, Any]) -> None:
        for observer in self.observers:
            observer(kind, content)

    def _stop_collecting(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _collect(self) -> None:
        next_sample = time.monotonic()
        with self._noting_failure():
            while not self._stop.wait(_POLL_SECONDS):
                with self._polling:
                    self.writer.collector.poll()
                if self._sampler is not None and time.monotonic() >= next_sample:
                    next_sample = time.monotonic() + self._sample_seconds
                    self.writer.add_system_row(self._sampler())
        self._collector_cpu_seconds = time.thread_time()

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Once collecting has failed, what was being carried over is known to the spool alone: no seal may follow."""
        try:
            yield
        except RecorderError as error:
            self._failure = error
        except Exception as error:
            self._failure = RecordingError(f"the collector failed: {error!r}")
            self._failure.__cause__ = error


def is_sealed(path: Path) -> bool:
    """Whether the bundle at `path` has a valid manifest."""
    return read_manifest(path) is not None
