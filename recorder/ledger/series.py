"""A series: rows with a hash chain of their own, in segments. An open segment is JSON lines, a closed one Parquet.

The first line of an open segment is a header: `{"header": {"series", "segment", "previous"}, "prev", "hash"}`, where
`previous` is the closed segment before it with its digest. In Parquet the header is the file's `run-recorder`
metadata and each row's hash the last column. A row's hash covers its values that are not null.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import FileDigest, digest_file, make_read_only, recording_errors, sync_folder, write_all
from recorder.ledger.chain import chained_line
from recorder.ledger.columns import coerce_row
from recorder.ledger.ledger import genesis
from recorder.ledger.lines import read_objects, torn_tail


class SeriesWriter:
    """The one writer of a series. Not safe for several threads: the collector owns it."""

    def __init__(self, bundle: Path, series: str) -> None:
        self._bundle = bundle
        self.series = series
        self._handle: int | None = None
        self._last = genesis(bundle)
        self._number = 0
        self._previous: dict[str, Any] | None = None
        self.rows = 0
        self.torn = b""
        self._continue_existing()

    def append(self, row: dict[str, Any]) -> None:
        """Append one row. Null values are left out, numbers take their column's type."""
        if self._handle is None:
            self._open_segment()
        self._write(coerce_row(row))
        self.rows += 1

    def close_segment(self) -> tuple[str, FileDigest, int] | None:
        """Turn the open segment into Parquet; its path, digest and rows, or None when it has no rows.

        The open file is removed only after the closed one is complete and durable, so a kill leaves at least one.
        """
        if self._handle is None or self.rows == 0:
            return None
        from recorder.ledger.parquet import write_segment

        source = self._bundle / layout.open_series(self.series, self._number)
        path = layout.closed_series(self.series, self._number)
        target = self._bundle / path
        temporary = target.with_name(f".{target.name}.tmp")
        with recording_errors(target):
            os.close(self._handle)
            self._handle = None
            write_segment(source, temporary)
            digests = digest_file(temporary)
            temporary.replace(target)
            sync_folder(target.parent)
        make_read_only(target)
        source.unlink()
        self._previous = {"path": path, **digests.record()}
        rows, self.rows = self.rows, 0
        return path, digests, rows

    def _open_segment(self) -> None:
        self._number += 1
        path = self._bundle / layout.open_series(self.series, self._number)
        with recording_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        header = {"series": self.series, "segment": self._number, "previous": self._previous}
        self._write({"header": header})

    def _write(self, record: dict[str, Any]) -> None:
        assert self._handle is not None
        own, line = chained_line(self._last, record)
        with recording_errors(self._bundle / layout.open_series(self.series, self._number)):
            write_all(self._handle, line)
        self._last = own

    def _continue_existing(self) -> None:
        """Go on after the last row on disk; a torn last line is cut off and handed to the caller in `torn`."""
        paths = layout.segments(self._bundle, self.series)
        if not paths:
            return
        path = paths[-1]
        self._number = int(path.stem)
        if path.suffix == ".parquet":
            from recorder.ledger.parquet import read_segment

            path.with_suffix(".jsonl").unlink(missing_ok=True)
            self._last = read_segment(path).last_hash
            relative = layout.closed_series(self.series, self._number)
            self._previous = {"path": relative, **digest_file(path).record()}
            return
        self.torn = torn_tail(path)
        if self.torn:
            os.truncate(path, path.stat().st_size - len(self.torn))
        lines = 0
        for _, record in read_objects(path):
            self._last = record["hash"]
            lines += 1
            if "header" in record:
                self._previous = record["header"]["previous"]
        if lines == 0:
            path.unlink()
            self._number -= 1
            self._restore_previous(paths[:-1])
            return
        self.rows = lines - 1
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _restore_previous(self, closed: list[Path]) -> None:
        """After an open segment without even a header: the chain goes on from the closed one before it."""
        if closed:
            from recorder.ledger.parquet import read_segment

            self._last = read_segment(closed[-1]).last_hash
            relative = layout.closed_series(self.series, self._number)
            self._previous = {"path": relative, **digest_file(closed[-1]).record()}
