"""Changing bundles after the fact, as badly or as cleverly as an adversary would."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.files import digest_file
from recorder.bundle.manifest import bundle_files, manifest_root
from recorder.canonical import readable_json
from recorder.ledger.chain import chained_line
from recorder.ledger.parquet import read_segment, write_segment


def overwrite(path: Path, data: bytes) -> None:
    """Replace the content of a file, though it may be read-only."""
    if path.exists():
        path.chmod(0o644)
    path.write_bytes(data)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit of the byte at `offset`."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    overwrite(path, bytes(data))


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file and write it as neatly as it was."""
    value = json.loads(path.read_bytes())
    change(value)
    overwrite(path, readable_json(value))


def reseal(bundle: Path) -> None:
    """Take all digests anew and give the manifest the root that fits: what someone who knows the format would do."""

    def renew(manifest: dict[str, Any]) -> None:
        names = bundle_files(bundle)
        manifest["files"] = {name: digest_file(bundle / name).record() for name in names}
        manifest["segments"] = {
            folder: [name for name in names if name.startswith(f"{folder}/")] for folder in manifest["segments"]
        }
        manifest["root"] = manifest_root(manifest)

    edit_json(bundle / layout.MANIFEST, renew)


def edit_event(bundle: Path, kind: str, change: Callable[[dict[str, Any]], Any], rehash: bool = False) -> str:
    """Change the fields of the first event of a type; `rehash` gives its line the hash that fits. The file's path."""
    for path in layout.segments(bundle, layout.LEDGER):
        lines = path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines):
            event = json.loads(line)
            if event["type"] == kind:
                change(event["fields"])
                lines[number] = _line(event, rehash)
                overwrite(path, b"".join(lines))
                return path.relative_to(bundle).as_posix()
    raise LookupError(kind)


def rechain_ledger(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change events and make the whole ledger consistent again, the digests between its segments included."""

    def changed(event: dict[str, Any]) -> list[dict[str, Any]]:
        change(event)
        return [event]

    rewrite_ledger(bundle, changed)


def rewrite_ledger(bundle: Path, replace: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> None:
    """Put others in the place of each event, or none, and make the whole ledger consistent again."""
    segments = layout.segments(bundle, layout.LEDGER)
    previous = json.loads(segments[0].read_bytes().splitlines()[0])["prev"]
    before: Path | None = None
    seq = 0
    for path in segments:
        lines = []
        for line in path.read_bytes().splitlines():
            event = {key: value for key, value in json.loads(line).items() if key not in {"prev", "hash"}}
            if event["type"] == "segment.opened" and before is not None:
                event["fields"]["previous"] |= digest_file(before).record()
            for written in replace(event):
                seq += 1
                previous, rewritten = chained_line(previous, written | {"seq": seq})
                lines.append(rewritten)
        overwrite(path, b"".join(lines))
        before = path


def rewrite_metrics(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change rows of closed segments, and make chains, headers and the ledger's digests of them consistent again."""
    digests: dict[str, dict[str, Any]] = {}
    last: str | None = None
    for path in layout.segments(bundle, layout.METRICS):
        segment = read_segment(path)
        header = segment.header
        if digests:
            header["previous"] |= digests[header["previous"]["path"]]
        last, line = chained_line(last or segment.prev, {"header": header})
        lines = [line]
        for row in segment.rows():
            change(row)
            last, line = chained_line(last, row)
            lines.append(line)
        source = path.with_suffix(".changed")
        source.write_bytes(b"".join(lines))
        path.unlink()
        write_segment(source, path)
        source.unlink()
        digests[path.relative_to(bundle).as_posix()] = digest_file(path).record()

    def restate(event: dict[str, Any]) -> None:
        if event["type"] == "segment.closed" and event["fields"]["path"] in digests:
            event["fields"] |= digests[event["fields"]["path"]]

    rechain_ledger(bundle, restate)


def rechain_segment(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change rows of a closed segment and give them a chain that is consistent in itself."""
    segment = read_segment(path)
    last, line = chained_line(segment.prev, {"header": segment.header})
    lines = [line]
    for row in segment.rows():
        change(row)
        last, line = chained_line(last, row)
        lines.append(line)
    source = path.with_suffix(".changed")
    source.write_bytes(b"".join(lines))
    path.unlink()
    write_segment(source, path)
    source.unlink()


def _line(event: dict[str, Any], rehash: bool) -> bytes:
    content = {key: value for key, value in event.items() if key not in {"prev", "hash"}}
    own, line = chained_line(event["prev"], content)
    if rehash:
        return line
    return line.replace(own.encode(), event["hash"].encode())


def make_pipe(path: Path) -> None:
    """A named pipe, on which a careless reader waits for ever."""
    os.mkfifo(path)
