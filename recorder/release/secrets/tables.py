"""The texts of a Parquet file: strings in its columns, once each with the first row they stand in, names, metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from recorder.errors import BundleError

Texts = tuple[str, list[bytes], list[int]]

# What Arrow keeps of the schema for itself: base64 of names and metadata that stand there in the clear as well.
_ARROWS_OWN = b"ARROW:schema"


def table_texts(file: IO[bytes]) -> Iterator[Texts]:
    """Place, texts and row numbers (from 1; 0 for what is in no row). Raises BundleError for what is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
        metadata = opened.metadata.metadata or {}
        described = [value for key, item in metadata.items() if key != _ARROWS_OWN for value in (key, item)]
        described += [field.name.encode() for field in opened.schema_arrow]
        yield "metadata", described, [0] * len(described)
        for field in opened.schema_arrow:
            if _holds_text(field.type):
                yield field.name, *_unique(opened.read(columns=[field.name]).column(0))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BundleError(f"it is no Parquet file: {error}") from None


def _holds_text(type: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_nested(type):
        return any(_holds_text(type.field(number).type) for number in range(type.num_fields))
    if pa.types.is_dictionary(type):
        return _holds_text(type.value_type)
    return any(test(type) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _unique(column: Any) -> tuple[list[bytes], list[int]]:
    """Each text of the column once; digests of fixed length are no texts."""
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        first: dict[bytes, int] = {}
        for row, value in enumerate(column.to_pylist(), 1):
            first.setdefault(repr(value).encode(errors="surrogateescape"), row)
        return list(first), list(first.values())
    values = column.unique().to_pylist()
    present = [value for value in values if value is not None]
    texts = [value if isinstance(value, bytes) else value.encode(errors="surrogateescape") for value in present]
    return texts, [column.index(value).as_py() + 1 for value in present] if len(texts) < 1000 else _rows(column)


def _rows(column: Any) -> list[int]:
    """The first row of each different value, in one pass."""
    first: dict[Any, int] = {}
    for row, value in enumerate(column.to_pylist(), 1):
        if value is not None:
            first.setdefault(value, row)
    return list(first.values())
