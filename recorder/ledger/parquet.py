"""Closed segments of a series as Parquet: written from an open segment, read back to the very same rows."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recorder.canonical import canonical_json, decode_float, encode_non_finite
from recorder.errors import BundleError
from recorder.ledger import columns
from recorder.ledger.chain import link
from recorder.ledger.lines import read_objects

HASH = "hash"
_METADATA = b"run-recorder"
# Rows that are Python objects at a time: the memory of a reader does not grow with the segment's length.
_BATCH = 4096
_TYPES = {
    columns.INTEGER: pa.int64(),
    columns.FLOAT: pa.float64(),
    columns.TEXT: pa.string(),
    columns.INTEGERS: pa.list_(pa.int64()),
    columns.FLOATS: pa.list_(pa.float64()),
}


@dataclass(frozen=True)
class Segment:
    """A closed segment in memory: `header` as written, `prev` what its chain begins with, `table` all columns."""

    header: dict[str, Any]
    prev: str
    table: pa.Table

    @property
    def last_hash(self) -> str:
        """The hash of the last row, from which the next segment goes on."""
        last: bytes = self.table.column(HASH)[-1].as_py()
        return last.hex()

    def rows(self) -> list[dict[str, Any]]:
        """The rows as they were logged: nulls left out, no hash."""
        return list(_rows(self.table.drop_columns([HASH])))

    def check(self, previous: str, edited: Sequence[tuple[int, int]] = ()) -> str | None:
        """What is wrong with the chain, which should begin after hash `previous`; None when all is well.

        `edited` are ranges of rows that keep the hashes they had before they were edited.
        """
        numbers = {number for first, last in edited for number in range(first, last + 1)}
        if self.prev != previous:
            return f"it should follow hash {previous} and follows {self.prev}"
        last = link(previous, canonical_json({"header": self.header}))
        hashes = self.table.column(HASH).to_pylist()
        for number, (row, stored) in enumerate(zip(self.rows(), hashes, strict=True), 1):
            last = stored.hex() if number in numbers else link(last, canonical_json(row))
            if bytes.fromhex(last) != stored:
                return f"row {number} does not match its hash"
        return None


def write_segment(source: Path, target: Path) -> None:
    """Write the rows of the open segment `source` to `target` as Parquet, durably."""
    records = [record for _, record in read_objects(source)]
    header, rows = records[0], records[1:]
    schema: dict[str, str] = {}
    for row in rows:
        for name in row:
            if name not in {"prev", HASH}:
                schema.setdefault(name, columns.column_type(name))
    fields = [(name, _TYPES[kind]) for name, kind in sorted(schema.items(), key=_ours_first)]
    data = {name: pa.array([_decode(row.get(name), schema[name]) for row in rows], type) for name, type in fields}
    data[HASH] = pa.array([bytes.fromhex(row[HASH]) for row in rows], pa.binary(32))
    described = {"header": header["header"], "prev": header["prev"]}
    table = pa.table(data).replace_schema_metadata({_METADATA: canonical_json(described)})
    with target.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def read_segment(path: Path) -> Segment:
    """Read a closed segment. Raises BundleError when it is no Parquet file of ours."""
    try:
        table = pq.read_table(path)
        described = json.loads(table.schema.metadata[_METADATA])
        if table.num_rows == 0 or not pa.types.is_fixed_size_binary(table.schema.field(HASH).type):
            raise ValueError("it has no hashed rows")
        return Segment(described["header"], described["prev"], table.replace_schema_metadata(None))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read as a metrics segment ({error})") from None


def segment_rows(path: Path, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a closed segment as they were logged, a few thousand at a time; only some `columns`, where named.

    Raises BundleError when it is no Parquet file of ours.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = _own_columns(file)
            wanted = names if columns is None else [name for name in names if name in columns]
            for batch in file.iter_batches(_BATCH, columns=wanted):
                yield from _rows(batch)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read as a metrics segment ({error})") from None


def segment_columns(path: Path) -> list[str]:
    """The columns of a closed segment but for the hash. Raises BundleError when it is no Parquet file of ours."""
    try:
        with pq.ParquetFile(path) as file:
            return _own_columns(file)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read as a metrics segment ({error})") from None


def _own_columns(file: pq.ParquetFile) -> list[str]:
    schema = file.schema_arrow
    json.loads((schema.metadata or {})[_METADATA])
    if file.metadata.num_rows == 0 or not pa.types.is_fixed_size_binary(schema.field(HASH).type):
        raise ValueError("it has no hashed rows")
    return [name for name in schema.names if name != HASH]


def _rows(table: pa.Table | pa.RecordBatch) -> Iterator[dict[str, Any]]:
    names = table.schema.names
    data = [table.column(name).to_pylist() for name in names]
    for values in zip(*data, strict=True):
        yield {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _ours_first(item: tuple[str, str]) -> tuple[int, str]:
    order = list(columns.KNOWN)
    return (order.index(item[0]), "") if item[0] in columns.KNOWN else (len(order), item[0])


def _decode(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == columns.FLOAT:
        return decode_float(value)
    if kind == columns.FLOATS:
        return [decode_float(item) for item in value]
    return value


def to_json_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row for JSON output, non-finite numbers as their stated strings."""
    result: dict[str, Any] = encode_non_finite(row)
    return result
