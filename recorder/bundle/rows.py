"""Rows of a series of a bundle, whether their segments are closed or open."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.canonical import decode_float
from recorder.errors import BundleError
from recorder.ledger.columns import FLOAT, FLOATS, column_type
from recorder.ledger.lines import read_objects

# What a line of an open segment holds beside its row.
_OF_A_LINE = frozenset({"prev", "hash"})


def read_rows(bundle: Path, series: str, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Every whole row in the order it was recorded, numbers as numbers. Raises BundleError for a damaged segment.

    With `columns` a row has no others. Memory does not grow with the number of rows.
    """
    for path in layout.segments(bundle, series):
        yield from _segment_rows(path, series, columns)


def column_names(bundle: Path, series: str) -> list[str]:
    """Every column that a series has, sorted. Raises BundleError for a damaged segment."""
    names: set[str] = set()
    for path in layout.segments(bundle, series):
        names.update(_columns(path, series))
    return sorted(names)


def _columns(path: Path, series: str) -> set[str]:
    from recorder.ledger.parquet import segment_columns

    if path.suffix == ".parquet":
        return set(segment_columns(path))
    try:
        return {name for row in _open_rows(path, series, None) for name in row}
    except FileNotFoundError:
        return set(segment_columns(path.with_suffix(".parquet")))


def newest_rows(bundle: Path, series: str) -> list[dict[str, Any]]:
    """The rows of the two newest segments. Raises BundleError when one is damaged.

    The newest may hold nothing but what was left over of steps that a lost worker had not finished.
    """
    return [row for path in layout.segments(bundle, series)[-2:] for row in _segment_rows(path, series)]


def read_placed_rows(bundle: Path, series: str, segment: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """As `read_rows`, each with the path of the segment that holds it, as it was when it was listed.

    With `segment` only the rows of that one.
    """
    for path in [segment] if segment is not None else layout.segments(bundle, series):
        for row in _segment_rows(path, series):
            yield f"{series}/{path.name}", row


def _segment_rows(path: Path, series: str, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    if path.suffix == ".jsonl":
        try:
            yield from _open_rows(path, series, columns)
        except FileNotFoundError:
            # Closed between the listing and the reading, by a run that is being written.
            yield from _closed_rows(path.with_suffix(".parquet"), columns)
    else:
        yield from _closed_rows(path, columns)


def _closed_rows(path: Path, columns: Collection[str] | None) -> Iterator[dict[str, Any]]:
    from recorder.ledger.parquet import segment_rows

    return segment_rows(path, columns)


def _open_rows(path: Path, series: str, columns: Collection[str] | None) -> Iterator[dict[str, Any]]:
    try:
        for _, record in read_objects(path):
            if "header" not in record:
                yield {
                    name: _number(name, value)
                    for name, value in record.items()
                    if name not in _OF_A_LINE and (columns is None or name in columns)
                }
    except (ValueError, TypeError) as error:
        raise BundleError(f"{series}/{error}") from None


def _number(name: str, value: Any) -> Any:
    kind = column_type(name)
    if kind == FLOAT:
        return decode_float(value)
    return [decode_float(item) for item in value] if kind == FLOATS else value
