"""Web servers on loopback that know ranges, break off, and give other bytes than they have."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse


@dataclass
class Faults:
    """What goes wrong at a server; and the requests it has had, as method, path and range."""

    cut_after: int | None = None
    corrupt: set[str] = field(default_factory=set)
    no_ranges: bool = False
    refused: int | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Answers with bytes; says nothing on stderr."""

    protocol_version = "HTTP/1.1"
    faults: Faults

    def log_message(self, *arguments: object) -> None:
        pass

    def send_file(self, name: str, data: bytes | None) -> None:
        """Answer with a file, or the part of it that was asked for."""
        asked = self.headers.get("Range")
        self.faults.requests.append((self.command, name, asked))
        if self.faults.refused is not None:
            self.answer(self.faults.refused)
            return
        if data is None:
            self.answer(404)
            return
        if name in self.faults.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        first = re.fullmatch(r"bytes=(\d+)-", asked or "")
        start = int(first[1]) if first and not self.faults.no_ranges else 0
        if start and start >= len(data):
            self.answer(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        data = data[start:]
        if self.faults.cut_after is not None and len(data) > self.faults.cut_after:
            data, self.close_connection = data[: self.faults.cut_after], True
        self.wfile.write(data)

    def answer(self, status: int, data: bytes = b"", kind: str = "application/json", link: str | None = None) -> None:
        """A short answer; `link` is its header of that name."""
        self.send_response(status)
        if link is not None:
            self.send_header("Link", link)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(handler: type[Handler]) -> Iterator[str]:
    """A server of this kind on loopback; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def file_server(folder: Path) -> Iterator[tuple[str, Faults]]:
    """A server of the files below `folder`."""
    known = Faults()

    class Files(Handler):
        faults = known

        def do_GET(self) -> None:
            name = unquote(urlparse(self.path).path).lstrip("/")
            path = folder / name
            self.send_file(name, path.read_bytes() if path.is_file() else None)

    with serving(Files) as address:
        yield address, known
