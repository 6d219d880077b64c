"""Writing the edited copy of a file, by what kind of file it is, so that `recorder verify` can still read it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.alterations import is_indispensable
from recorder.canonical import canonical_json, digest, readable_json
from recorder.errors import UsageError
from recorder.release.archive_edits import edit_archive, refuse_packed
from recorder.release.replacement import Edited, Replaced, Replacer, Uneditable, Unreadable, how_to_allow
from recorder.release.secrets.embedded import torn_record, with_torn_record
from recorder.release.secrets.places import GZIP, PACKED, PARQUET, PATCHES, is_code, pieces, tensor_header
from recorder.release.table_edits import edit_table

_BLOCK = 4 << 20


def edit_file(source: Path, target: Path, name: str, replacer: Replacer) -> Edited | None:
    """Write `source`, which the bundle knows by `name`, to `target` with everything replaced.

    Returns None, and writes nothing, when there is nothing to replace. Raises UsageError when it cannot be edited.
    """
    try:
        return _editor(source, name)(source, target, replacer)
    except Unreadable as error:
        _check_unreadable(source, name, replacer, " ".join(str(error).split()))
        return None
    except Uneditable as error:
        raise _refusal(name, str(error), error.fingerprints) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise _refusal(name, str(error), replacer.finds(pieces(source))) from None


def _refusal(name: str, why: str, found: Collection[str]) -> UsageError:
    withhold = "" if is_indispensable(name) else "withhold it, or "
    return UsageError(
        f"{name} holds what must not be published and cannot be edited ({why}): {withhold}let it through "
        f"({how_to_allow(found)})"
    )


def _check_unreadable(source: Path, name: str, replacer: Replacer, why: str) -> None:
    """Raises UsageError for a damaged file in which something is found, or a table in which names may be packed."""
    found = replacer.finds(pieces(source))
    # Metrics are numbers and digests. In other tables names stand, compressed.
    if found or (_magic(source) == PARQUET and not is_indispensable(name)):
        cure = f"let it through ({how_to_allow(found)})" if is_indispensable(name) else "withhold it"
        raise UsageError(f"{name} is damaged, and names in it cannot be replaced ({why}): {cure}")


def _editor(source: Path, name: str) -> Callable[[Path, Path, Replacer], Edited | None]:
    magic = _magic(source)
    if magic == PARQUET:
        return edit_table
    if magic[:2] == GZIP:
        return edit_archive
    if magic.startswith(PACKED):
        return _edit_packed
    if name.endswith(".safetensors"):
        return _edit_tensor_header
    if name.endswith(".jsonl") and name.startswith(
        (f"{layout.LEDGER}/", f"{layout.METRICS}/", f"{layout.SYSTEM_METRICS}/")
    ):
        return _edit_chained_lines
    return _edit_document if name.endswith(".json") else _edit_text


def _magic(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(4)


def _edit_packed(source: Path, target: Path, replacer: Replacer) -> None:
    """Nothing, or ValueError where something would have to be replaced."""
    del target
    with source.open("rb") as file:
        refuse_packed(file, source.name, replacer)


def _edit_text(source: Path, target: Path, replacer: Replacer) -> Edited | None:
    if source.name.endswith(PATCHES):
        with source.open("rb") as file:
            refuse_packed(file, source.name, replacer, but_lines=True)
    replaced = replacer.replace(source.read_bytes().split(b"\n"), is_code=is_code(source.name))
    if not replaced.changes:
        return None
    target.write_bytes(b"\n".join(replaced.lines))
    return Edited(replaced.changes)


def _edit_document(source: Path, target: Path, replacer: Replacer) -> Edited | None:
    """A JSON file: a replaced key may have another place in the order of keys. A damaged one is a text."""
    data = source.read_bytes()
    replaced = replacer.replace(data.split(b"\n"))
    if not replaced.changes:
        return None
    edited = b"\n".join(replaced.lines)
    if _is_json(data):
        after = json.loads(edited)
        edited = readable_json(after) if readable_json(json.loads(data)) == data else edited
    target.write_bytes(edited)
    return Edited(replaced.changes)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _edit_chained_lines(source: Path, target: Path, replacer: Replacer) -> Edited | None:
    """Each line keeps `prev` and `hash`, so that the chain goes on; the digests of edited lines are kept."""
    lines = source.read_bytes().split(b"\n")
    replaced = replacer.replace(lines)
    _replace_in_torn_records(replaced, replacer)
    if not replaced.changes:
        return None
    edited = Edited(replaced.changes)
    for number in replaced.changed:
        if _is_json(lines[number]):
            before, after = json.loads(lines[number]), json.loads(replaced.lines[number])
            replaced.lines[number] = canonical_json(after | {key: before[key] for key in ("prev", "hash")})
        edited.lines[str(number + 1)] = digest(replaced.lines[number] + b"\n")
    target.write_bytes(b"\n".join(replaced.lines))
    return edited


def _replace_in_torn_records(replaced: Replaced, replacer: Replacer) -> None:
    """The same within what an event keeps of a torn record."""
    for number, line in enumerate(replaced.lines):
        if (record := torn_record(line)) is None:
            continue
        inside = replacer.replace(record.split(b"\n"), "base64")
        if inside.changes:
            replaced.lines[number] = with_torn_record(line, b"\n".join(inside.lines))
            replaced.changed = sorted({*replaced.changed, number})
            replaced.changes += [change | {"line": number + 1} for change in inside.changes]


def _edit_tensor_header(source: Path, target: Path, replacer: Replacer) -> Edited | None:
    """The header may become longer or shorter: tensors are placed by their distance from its end."""
    with source.open("rb") as file:
        header = tensor_header(file)
        if header is None:
            return _edit_text(source, target, replacer)
        replaced = replacer.replace(header.split(b"\n"), "header")
        if not replaced.changes:
            return None
        text = b"\n".join(replaced.lines).rstrip(b" ")
        json.loads(text)
        padded = text + b" " * (-len(text) % 8)
        with target.open("wb") as out:
            out.write(struct.pack("<Q", len(padded)) + padded)
            while block := file.read(_BLOCK):
                out.write(block)
    return Edited(replaced.changes)
