"""The writing side of one attempt: ledger, metrics, logs and files of an open bundle, behind one lock."""

from __future__ import annotations

import base64
import itertools
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import FileDigest, write_file
from recorder.canonical import digest, readable_json, utc_text
from recorder.ledger import events
from recorder.ledger.collector import Collector
from recorder.ledger.ledger import Ledger, SpoolOrigin, read_events
from recorder.ledger.logs import LogWriter
from recorder.ledger.series import SeriesWriter
from recorder.ledger.steps import StepAssembler, written_parts


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
        self._checkpoints: dict[int, dict[str, Any]] = {}
        collected = self._read_past(attempt) if recovering else self._read_past(None)
        self.ledger = Ledger(bundle, attempt, clock)
        self._series = {name: SeriesWriter(bundle, name) for name in (layout.METRICS, layout.SYSTEM_METRICS)}
        self._report_torn_series()
        self.collector = Collector(
            spool_folder,
            self,
            StepAssembler(self._written_parts() if recovering else None),
            collected if recovering else None,
            clock,
        )

    def put_files(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Write captured files. Returns bundle path and BLAKE3 of each.

        What is there is left alone: content that differs goes beside it, with `.attempt-<n>` in its name.
        """
        placed = {}
        for path, data in files.items():
            versions = itertools.chain([path], (layout.version(path, self.attempt, n) for n in itertools.count(1)))
            name = next(name for name in versions if self._is_free(name, data))
            if not (self.bundle / name).exists():
                self._known[name] = write_file(self.bundle / name, data)
            placed[name] = digest(data)
        return placed

    def add_event(self, type: str, fields: dict[str, Any], origin: SpoolOrigin | None = None) -> None:
        """Append an event; a saved checkpoint also closes the segments and lets older checkpoints go."""
        with self._lock:
            if type == events.NODE_ENVIRONMENT and "environment" in fields:
                fields = self._place_environment(fields)
            self.ledger.append(type, fields, origin)
            if type == events.CHECKPOINT_SAVED:
                self._checkpoint_saved(fields)
            elif type == events.CHECKPOINT_REMOVED:
                self._checkpoints.pop(fields["step"], None)
        self._notify(type, fields)

    def add_row(self, row: dict[str, Any]) -> None:
        """Append a row to the metrics; workers that disagree about a step are an event."""
        with self._lock:
            differing = row.pop("_differing", None)
            self._series[layout.METRICS].append(row)
            if differing:
                named = {name: row[name] for name in ("step", "membership")}
                self.ledger.append(events.STEP_DIVERGED, named | {"differing": differing, "ranks": row["worker_rank"]})
        self._notify("row", row)

    def add_system_row(self, row: dict[str, Any]) -> None:
        """Append a row of system metrics, taken now."""
        with self._lock:
            named = {"attempt": self.attempt, "time": utc_text(self._clock())}
            self._series[layout.SYSTEM_METRICS].append(named | row)

    def add_line(self, origin: str, time: float, stream: str, text: str) -> None:
        """Append a line to the log of one process of this attempt."""
        with self._lock:
            self._log(origin).append(time, stream, text)
        self._notify("line", {"origin": origin, "stream": stream, "text": text})

    def lines_recorded(self, origin: str, stream: str) -> int:
        """How many lines of `stream` are in the log of one process of this attempt."""
        with self._lock:
            return self._log(origin).lines.get(stream, 0)

    def close_segments(self) -> None:
        """Close what is open: series become Parquet, logs state their digest so far, then the ledger's segment."""
        with self._lock:
            for series in self._series.values():
                if closed := series.close_segment():
                    path, digests, rows = closed
                    self._known[path] = digests
                    self.ledger.append(events.SEGMENT_CLOSED, {"path": path, "rows": rows, **digests.record()})
            for log in self._logs.values():
                if extended := log.extended():
                    self.ledger.append(events.LOG_EXTENDED, {"path": log.path, **extended.record()})
            self._close_ledger()

    def finish(self, type: str, **fields: Any) -> None:
        """Collect what is left, close series and logs, and record the end of the attempt."""
        with self._lock:
            self.collector.finish()
            self.close_segments()
            for log in self._logs.values():
                self._known[log.path] = log.close()
                self.ledger.append(events.LOG_CLOSED, {"path": log.path, **self._known[log.path].record()})
            self._logs.clear()
            self.add_event(type, fields)

    def close(self, outcome: str) -> None:
        """Record the end of the run and close the last segment; nothing may be written afterwards."""
        with self._lock:
            self.ledger.append(events.RUN_ENDED, {"outcome": outcome})
            self._close_ledger()

    def checkpoints(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Step, path and recorded files of every checkpoint that should be there, newest first."""
        with self._lock:
            return [(step, saved["path"], saved["files"]) for step, saved in sorted(self._checkpoints.items())][::-1]

    def known_digests(self) -> dict[str, FileDigest]:
        """Digests taken while files were written, in this attempt or, by the ledger, in earlier ones."""
        return self._known

    def _is_free(self, path: str, data: bytes) -> bool:
        target = self.bundle / path
        return not target.exists() or target.read_bytes() == data

    def _log(self, origin: str) -> LogWriter:
        if origin not in self._logs:
            self._logs[origin] = LogWriter(self.bundle, layout.log_file(self.attempt, origin))
        return self._logs[origin]

    def _close_ledger(self) -> None:
        if closed := self.ledger.close_segment():
            self._known[closed[0]] = closed[1]

    def _checkpoint_saved(self, fields: dict[str, Any]) -> None:
        self._learn_checkpoint(fields)
        self.close_segments()
        if self.keep:
            for step in sorted(self._checkpoints)[: -self.keep]:
                self._remove_checkpoint(step)

    def _remove_checkpoint(self, step: int) -> None:
        """The event comes first: a checkpoint that is gone is always accounted for."""
        path = self._checkpoints.pop(step)["path"]
        fields = {"step": step, "path": path, "reason": f"checkpoint.keep={self.keep}"}
        self.ledger.append(events.CHECKPOINT_REMOVED, fields)
        self._notify(events.CHECKPOINT_REMOVED, fields)
        shutil.rmtree(self.bundle / path, ignore_errors=True)
        for name in [name for name in self._known if name.startswith(f"{path}/")]:
            del self._known[name]

    def _learn_checkpoint(self, fields: dict[str, Any]) -> None:
        self._checkpoints[fields["step"]] = fields
        for name, record in fields["files"].items():
            self._known[f"{fields['path']}/{name}"] = FileDigest(**record)

    def _place_environment(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A node's environment is a file of its own; the event keeps the digest."""
        path, data = layout.node_file(fields["node"]), readable_json(fields["environment"])
        rest = {name: value for name, value in fields.items() if name != "environment"}
        return rest | {"environment": self.put_files({path: data})}

    def _read_past(self, attempt: int | None) -> dict[str, int]:
        """Learn digests and checkpoints from the ledger; what was collected of each spool of `attempt`."""
        collected: dict[str, int] = {}
        for event in read_events(self.bundle):
            fields = event["fields"]
            if event["type"] == events.CHECKPOINT_SAVED:
                self._learn_checkpoint(fields)
            elif event["type"] == events.CHECKPOINT_REMOVED:
                self._forget_checkpoint(fields)
            elif event["type"] in {events.SEGMENT_CLOSED, events.LOG_CLOSED}:
                self._known[fields["path"]] = FileDigest(fields["size"], fields["blake3"], fields["md5"])
            if event["attempt"] == attempt and "spool" in event:
                collected[event["spool"]] = max(event["spool_seq"], collected.get(event["spool"], 0))
        return collected

    def _forget_checkpoint(self, fields: dict[str, Any]) -> None:
        self._checkpoints.pop(fields["step"], None)
        for name in [name for name in self._known if name.startswith(f"{fields['path']}/")]:
            del self._known[name]
        shutil.rmtree(self.bundle / fields["path"], ignore_errors=True)

    def _written_parts(self) -> set[tuple[int, int, int, int]]:
        from recorder.bundle.rows import read_rows

        return written_parts([row for row in read_rows(self.bundle, layout.METRICS) if row["attempt"] == self.attempt])

    def _report_torn_series(self) -> None:
        for series in self._series.values():
            if series.torn:
                kept = base64.b64encode(series.torn).decode()
                fields = {"path": series.series, "bytes": len(series.torn), "base64": kept}
                self.ledger.append(events.SEGMENT_TORN, fields)


def _nobody(kind: str, content: dict[str, Any]) -> None:
    """Nobody is listening."""
    del kind, content
