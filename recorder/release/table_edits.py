"""Editing a closed segment: texts in its columns. Every row keeps the hash it had, and the edited rows are listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recorder.bundle.step_ranges import merge
from recorder.errors import BundleError
from recorder.release.replacement import Edited, Replacer, Uneditable, Unreadable
from recorder.release.secrets.places import Piece
from recorder.release.secrets.tables import table_texts


def edit_table(source: Path, target: Path, replacer: Replacer) -> Edited | None:
    """Write the Parquet file `source` to `target` with its texts replaced; None when there is nothing to replace.

    A change names the column, the first row of the value it is about, and stands for all its rows. Raises Unreadable
    for a damaged file, Uneditable when what must be replaced is no plain text column: a name, metadata or a list of
    texts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    edited = Edited([])
    try:
        table = pq.read_table(source)
        with source.open("rb") as file:
            places = list(table_texts(file))
    except (pa.ArrowException, OSError, BundleError) as error:
        raise Unreadable(str(error)) from None
    for place, texts, numbers in places:
        if not replacer.replace(texts).changes:
            continue
        column = table.schema.get_field_index(place)
        if column < 0 or not pa.types.is_string(table.schema.field(column).type):
            found = replacer.finds([Piece(place, texts)])
            raise Uneditable(f"it is in {place}, which is no column of plain texts", found)
        values = table.column(column).to_pylist()
        instead = _replacements(place, texts, numbers, replacer, edited.changes)
        edited.rows += [(row, row) for row, value in enumerate(values, 1) if value in instead]
        new = pa.array([instead.get(value, value) for value in values], pa.string())
        table = table.set_column(column, table.schema.field(column), new)
    if not edited.changes:
        return None
    edited.rows = merge(edited.rows)
    pq.write_table(table, target, compression="zstd")
    return edited


def _replacements(
    place: str, texts: list[bytes], numbers: list[int], replacer: Replacer, changes: list[dict[str, Any]]
) -> dict[str, str]:
    instead = {}
    for data, number in zip(texts, numbers, strict=True):
        text = data.decode(errors="surrogateescape")
        new, made = replacer.text(text, place, number)
        if made:
            instead[text] = new
            changes += made
    return instead
