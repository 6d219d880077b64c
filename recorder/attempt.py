"""The writing side of one attempt: ledger, metrics, logs and files of an open bundle, behind one lock."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import FileDigest, write_file
from recorder.bundle.rows import read_rows
from recorder.canonical import digest, readable_json, utc_text
from recorder.checkpoint.inventory import CheckpointInventory
from recorder.errors import BundleError, UsageError
from recorder.ledger import events
from recorder.ledger.collector import Collected, Collector
from recorder.ledger.ledger import Ledger, SpoolOrigin, read_events
from recorder.ledger.logs import LogSource, LogWriter
from recorder.ledger.series import SeriesWriter
from recorder.ledger.steps import StepAssembler
from recorder.ledger.torn import torn_fields
from recorder.release.secrets.masking import mask_values


class AttemptWriter:
    """Everything that one attempt adds to a bundle. The collector's thread and the driver's both call it.

    `recovering` continues an attempt whose driver was killed, from what is in the bundle and in its spools.
    """

    def __init__(
        self,
        bundle: Path,
        attempt: int,
        spool_folder: Path,
        clock: Callable[[], float],
        notify: Callable[[str, dict[str, Any]], None] | None = None,
        recovering: bool = False,
    ) -> None:
        self.bundle = bundle
        self.attempt = attempt
        self.keep = 0
        self._clock = clock
        self._notify = notify or _nobody
        self._lock = threading.RLock()
        self._logs: dict[str, LogWriter] = {}
        self._known: dict[str, FileDigest] = {}
        self._checkpoints = CheckpointInventory(bundle)
        collected = self._read_past()
        self._checkpoints.finish_removals()
        self.ledger = Ledger(bundle, attempt, clock)
        self._series = {name: SeriesWriter(bundle, name) for name in (layout.METRICS, layout.SYSTEM_METRICS)}
        self._record_interrupted_series()
        self.collector = Collector(
            spool_folder,
            self,
            StepAssembler(attempt, self._recorded_rows() if recovering else ()),
            collected if recovering else None,
            clock,
        )
        if recovering:
            for path in (bundle / layout.log_file(attempt, "x")).parent.glob("*.log"):
                self._log(path.stem)

    def put_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Write captured files. Returns bundle path and BLAKE3 of each.

        What is there is left alone: content that differs goes beside it, with `.attempt-<n>` in its name. Raises
        UsageError for a path that leads out of the bundle.
        """
        placed = {}
        for path, data in files.items():
            if path.startswith("/") or ".." in path.split("/"):
                raise UsageError(f"{path} is outside of the bundle")
            versions = itertools.chain([path], (layout.version(path, self.attempt, n) for n in itertools.count(1)))
            name = next(name for name in versions if self._is_free(name, data))
            if not (self.bundle / name).exists():
                self._close_file(name, write_file(self.bundle / name, data))
            placed[name] = digest(data)
        return placed

    def add_event(self, type: str, fields: dict[str, Any], origin: SpoolOrigin | None = None) -> None:
        """Append an event; a saved checkpoint also closes the segments and lets older checkpoints go.

        Raises BundleError, and records nothing, when `fields` are not what an event of a type of ours says.
        """
        with self._lock:
            if type == events.EXCEPTION:
                fields = mask_values(fields)
            if type == events.NODE_ENVIRONMENT and "environment" in fields:
                fields = self._place_environment(fields)
            self._checkpoints.follow(type, fields)
            self.ledger.append(type, fields, origin)
            if type == events.CHECKPOINT_SAVED:
                self.close_segments()
                self._remove_old_checkpoints()
            elif type == events.CHECKPOINT_REMOVED:
                self._checkpoints.remove(fields["path"], fields.get("kept_as"))
        self._notify(type, fields)

    def add_row(self, row: dict[str, Any], differing: Sequence[str] = ()) -> None:
        """Append a row to the metrics; workers that disagree about a step are an event."""
        with self._lock:
            if differing:
                named = {"step": row["step"], "membership": row["membership"], "ranks": row["worker_rank"]}
                self.ledger.append(events.STEP_DIVERGED, named | {"differing": list(differing)})
            self._series[layout.METRICS].append(row)
        self._notify("row", row)

    def add_system_row(self, row: dict[str, Any]) -> None:
        """Append a row of system metrics, taken now."""
        with self._lock:
            named = {"attempt": self.attempt, "time": utc_text(self._clock())}
            self._series[layout.SYSTEM_METRICS].append(named | row)

    def add_line(self, source: LogSource, time: float, text: str) -> None:
        """Append a line to the log of one process of this attempt."""
        with self._lock:
            self._log(source.origin).append(time, source, text)
        self._notify("line", {"origin": source.origin, "stream": source.stream, "text": text})

    def lines_recorded(self, source: LogSource) -> int:
        """How many lines of `source` are in the log of one process of this attempt."""
        with self._lock:
            return self._log(source.origin).lines(source)

    def close_segments(self) -> None:
        """Close what is open: series become Parquet, logs state their digest so far, then the ledger's segment."""
        with self._lock:
            for series in self._series.values():
                if closed := series.close_segment():
                    self._record_closed(*closed)
            for log in self._logs.values():
                if extended := log.extended():
                    self.ledger.append(events.LOG_EXTENDED, {"path": log.path, **extended.record()})
            if closed_ledger := self.ledger.close_segment():
                self._close_file(*closed_ledger)

    def finish(self, type: str, **fields: Any) -> None:
        """Collect what is left, settle checkpoints, close series and logs, and record the end of the attempt."""
        with self._lock:
            self.collector.finish()
            self.settle_checkpoints()
            self.close_segments()
            for log in self._logs.values():
                self._close_log(log)
            self._logs.clear()
            self.add_event(type, fields)

    def settle_checkpoints(self, spare: Collection[int] = ()) -> None:
        """Record checkpoints whose writer was killed before it could, and remove those it had only begun.

        Call it when no worker lives that writes one, but for the processes in `spare`, whose own are left alone.
        """
        with self._lock:
            for saved in list(self._checkpoints.unrecorded()):
                self.add_event(events.CHECKPOINT_SAVED, {**saved, "recovered": True})
            for folder in self._checkpoints.partial():
                if layout.writer_of_partial(folder.name) in spare:
                    continue
                path = folder.relative_to(self.bundle).as_posix()
                self.add_event(events.CHECKPOINT_FAILED, {"path": path, "reason": "its writing was cut off"})
                shutil.rmtree(folder, ignore_errors=True)

    def close(self, outcome: str) -> None:
        """Record the end of the run and close the last segment; nothing may be written afterwards."""
        with self._lock:
            self.ledger.append(events.RUN_ENDED, {"outcome": outcome})
            if closed := self.ledger.end():
                self._close_file(*closed)

    def checkpoints(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Step, path and recorded files of every checkpoint that should be there, newest first."""
        with self._lock:
            return [(saved["step"], saved["path"], saved["files"]) for saved in self._checkpoints.newest_first()]

    def known_digests(self) -> dict[str, FileDigest]:
        """Digests taken while files were written, in this attempt or, by the ledger, in earlier ones."""
        with self._lock:
            return self._known | self._checkpoints.digests()

    def _is_free(self, path: str, data: bytes) -> bool:
        target = self.bundle / path
        return not target.exists() or target.read_bytes() == data

    def _log(self, origin: str) -> LogWriter:
        if origin not in self._logs:
            self._logs[origin] = LogWriter(self.bundle, layout.log_file(self.attempt, origin))
        return self._logs[origin]

    def _close_log(self, log: LogWriter) -> None:
        digests = log.close()
        if digests is not None and self._known.get(log.path) != digests:
            self._close_file(log.path, digests)
            self.ledger.append(events.LOG_CLOSED, {"path": log.path, **digests.record()})

    def _remove_old_checkpoints(self) -> None:
        """The event comes first: a checkpoint that is gone is always accounted for."""
        for saved in self._checkpoints.newest_first()[self.keep :] if self.keep else []:
            named = {"step": saved["step"], "path": saved["path"]}
            self.add_event(events.CHECKPOINT_REMOVED, named | {"reason": f"checkpoint.keep={self.keep}"})

    def _place_environment(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A node's environment is a file of its own; the event keeps the digest."""
        if not layout.is_run_id(str(fields.get("node"))):
            raise BundleError(f"node {fields.get('node')!r} cannot name a file of the bundle")
        path, data = layout.node_file(fields["node"]), readable_json(fields["environment"])
        rest = {name: value for name, value in fields.items() if name != "environment"}
        return rest | {"environment": self.put_files({path: data})}

    def _read_past(self) -> Collected:
        """Learn digests and checkpoints from the ledger, and what was collected of this attempt's spools."""
        collected = Collected()
        for event in read_events(self.bundle):
            fields = event["fields"]
            self._checkpoints.follow(event["type"], fields)
            try:
                if event["type"] in {events.SEGMENT_CLOSED, events.LOG_CLOSED, events.SEGMENT_OPENED}:
                    closed = fields["previous"] if event["type"] == events.SEGMENT_OPENED else fields
                    self._known[closed["path"]] = FileDigest(closed["size"], closed["blake3"], closed["md5"])
                if event["attempt"] == self.attempt:
                    collected.follow(event)
            except (LookupError, TypeError) as error:
                raise BundleError(f"event {event['seq']} in the ledger of {self.bundle.name} lacks {error}") from None
        return collected

    def _recorded_rows(self) -> Iterator[dict[str, Any]]:
        return (row for row in read_rows(self.bundle, layout.METRICS) if row["attempt"] == self.attempt)

    def _record_interrupted_series(self) -> None:
        """Record what a kill left of a series: half a row, or a segment that was closed and not yet in the ledger."""
        for series in self._series.values():
            if series.torn:
                path, torn = series.torn
                self.ledger.append(events.SEGMENT_TORN, {"path": path, **torn_fields(torn)})
            if series.found_closed and series.found_closed[0] not in self._known:
                self._record_closed(*series.found_closed)

    def _record_closed(self, path: str, digests: FileDigest, rows: int) -> None:
        self._close_file(path, digests)
        self.ledger.append(events.SEGMENT_CLOSED, {"path": path, "rows": rows, **digests.record()})

    def _close_file(self, path: str, digests: FileDigest) -> None:
        """From here on nobody writes the file."""
        self._known[path] = digests
        self._notify("closed", {"path": path, **digests.record()})


def _nobody(kind: str, content: dict[str, Any]) -> None:
    """Nobody is listening."""
    del kind, content
