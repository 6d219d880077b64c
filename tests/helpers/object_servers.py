"""A real S3 server on loopback, and a wire to it that can be cut."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.dvc_repositories import dvc

BUCKET = "bundles"


class Wire:
    """A port that passes bytes on to `target`, until it is cut: by hand, or after a number of bytes towards it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._is_cut = False
        self.cut_after: int | None = None
        self.was_cut = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection and take no new one."""
        self._is_cut = True
        self.was_cut.set()
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def mend(self) -> None:
        """Pass everything on again."""
        self.cut_after, self._is_cut = None, False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counted and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut()
                        return
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def s3_server(log: Path) -> Iterator[int]:
    """A server of the S3 protocol with an empty bucket; its port."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "anyone",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with log.open("w") as output:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
                urllib.request.urlopen(request, timeout=10).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def add_s3_remote(repository: Path, port: int, name: str = "store") -> None:
    """A DVC remote in the bucket, reached through `port`."""
    dvc(repository, "remote", "add", "--default", name, f"s3://{BUCKET}/lab")
    dvc(repository, "remote", "modify", name, "endpointurl", f"http://127.0.0.1:{port}")


def alter_object(port: int, name: str, data: bytes | None) -> None:
    """Put other bytes where the bucket keeps the object `name`; None removes it."""
    from s3fs import S3FileSystem

    files = S3FileSystem(endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True)
    path = f"{BUCKET}/lab/files/md5/{name[:2]}/{name[2:]}"
    files.rm_file(path) if data is None else files.pipe_file(path, data)
