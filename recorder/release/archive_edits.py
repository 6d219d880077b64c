"""Editing a tar.gz: members and their names, everything else as it was."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import IO, Any

from recorder.release.replacement import Edited, Replacer, Uneditable, Unreadable
from recorder.release.secrets.places import DAMAGED, GZIP, PACKED, PARQUET, PATCHES, is_code, pieces_in

_BINARY = (PARQUET, GZIP, *PACKED)


def edit_archive(source: Path, target: Path, replacer: Replacer) -> Edited | None:
    """Write the tar.gz `source` to `target` with all text in it replaced; None when there is nothing to replace.

    Equal contents give equal bytes. Raises Unreadable for what is no tar.gz or is damaged, Uneditable for what holds
    in a member that is compressed itself what would have to be replaced.
    """
    changes: list[dict[str, Any]] = []
    buffer = io.BytesIO()
    try:
        with (
            tarfile.open(source, "r:gz", errors="surrogateescape") as old,
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=buffer, mtime=0) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as new,
        ):
            for member in old:
                opened = old.extractfile(member)
                content = opened.read() if opened is not None else None
                changes += _add(new, member, content, replacer)
    except (tarfile.TarError, *DAMAGED) as error:
        raise Unreadable(f"it is no tar.gz: {error}") from None
    if not changes:
        return None
    target.write_bytes(buffer.getvalue())
    return Edited(changes)


def _add(
    new: tarfile.TarFile, member: tarfile.TarInfo, content: bytes | None, replacer: Replacer
) -> list[dict[str, Any]]:
    """Copy one member, edited; the changes."""
    changes: list[dict[str, Any]] = []
    # Extended headers repeat names that are replaced below.
    member.pax_headers = {}
    for attribute in ("name", "linkname", "uname", "gname"):
        text, made = replacer.text(getattr(member, attribute))
        setattr(member, attribute, text)
        changes += made
    if content is not None and content.startswith(_BINARY):
        refuse_packed(io.BytesIO(content), member.name, replacer)
    elif content is not None:
        if member.name.endswith(PATCHES):
            refuse_packed(io.BytesIO(content), member.name, replacer, but_lines=True)
        replaced = replacer.replace(content.split(b"\n"), is_code=is_code(member.name))
        changes += replaced.changes
        content = b"\n".join(replaced.lines)
        member.size = len(content)
    new.addfile(member, io.BytesIO(content) if content is not None else None)
    return [change | {"place": member.name} for change in changes]


def refuse_packed(file: IO[bytes], name: str, replacer: Replacer, but_lines: bool = False) -> None:
    """Raises Uneditable when something must be replaced in a file that is packed or not in UTF-8.

    `but_lines` leaves out the lines of a patch, which can be edited.
    """
    if found := replacer.finds(piece for piece in pieces_in(file, name) if piece.place or not but_lines):
        raise Uneditable(f"it is in {name}, packed or not in UTF-8", found)
