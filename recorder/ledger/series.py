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
from recorder.bundle.files import (
    FileDigest,
    append_whole,
    digest_file,
    make_read_only,
    make_writable,
    recording_errors,
    sync_folder,
    temporary_path,
)
from recorder.errors import BundleError
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
        self._is_empty = True
        self.rows = 0
        self._closed: tuple[str, FileDigest] | None = None
        # What the bundle held: half a row and the file it was in; the closed segment after which nothing was begun.
        self.torn: tuple[str, bytes] | None = None
        self.found_closed: tuple[str, FileDigest, int] | None = None
        self._continue_existing()

    def append(self, row: dict[str, Any]) -> None:
        """Append one row. Null values are left out, numbers take their column's type."""
        values = coerce_row(row)
        if self._handle is None:
            self._open_segment()
        if self._is_empty:
            self._write({"header": self._header()})
        self._write(values)
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
        temporary = temporary_path(target)
        with recording_errors(target):
            try:
                write_segment(source, temporary)
                digests = digest_file(temporary)
                make_read_only(temporary)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(target.parent)
            os.close(self._handle)
            self._handle = None
            source.unlink()
        self._closed = (path, digests)
        rows, self.rows = self.rows, 0
        return path, digests, rows

    def _open_segment(self) -> None:
        path = self._bundle / layout.open_series(self.series, self._number + 1)
        with recording_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._number += 1
        self._is_empty = True

    def _header(self) -> dict[str, Any]:
        previous = {"path": self._closed[0], **self._closed[1].record()} if self._closed else None
        return {"series": self.series, "segment": self._number, "previous": previous}

    def _write(self, record: dict[str, Any]) -> None:
        assert self._handle is not None
        own, line = chained_line(self._last, record)
        with recording_errors(self._bundle / layout.open_series(self.series, self._number)):
            append_whole(self._handle, line)
        self._last, self._is_empty = own, False

    def _continue_existing(self) -> None:
        """Go on after the last row on disk; a torn last line is cut off and handed to the caller in `torn`."""
        for path in reversed(layout.segments(self._bundle, self.series)):
            self._number = int(path.stem)
            if path.suffix == ".parquet":
                self._continue_closed(path)
                return
            if self._continue_open(path):
                return
            # Its writer was killed between opening it and its first row.
            path.unlink()
            self._number -= 1

    def _continue_closed(self, path: Path) -> None:
        from recorder.ledger.parquet import read_segment

        path.with_suffix(".jsonl").unlink(missing_ok=True)
        segment, name = read_segment(path), layout.closed_series(self.series, self._number)
        self._last, self._closed = segment.last_hash, (name, digest_file(path))
        self.found_closed = (*self._closed, segment.table.num_rows)

    def _continue_open(self, path: Path) -> bool:
        """Whether the segment has rows, after which the writer goes on."""
        make_writable(path)
        if tail := torn_tail(path):
            self.torn = (layout.open_series(self.series, self._number), tail)
            os.truncate(path, path.stat().st_size - len(tail))
        try:
            records = [record for _, record in read_objects(path)]
            if len(records) < 2:
                return False
            self._last = records[-1]["hash"]
            if (previous := records[0]["header"]["previous"]) is not None:
                digests = FileDigest(previous["size"], previous["blake3"], previous["md5"])
                self._closed = (previous["path"], digests)
        except (ValueError, LookupError, TypeError) as error:
            raise BundleError(f"{self.series}/{path.name} is damaged and cannot be continued: {error}") from None
        self.rows, self._is_empty = len(records) - 1, False
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        return True
