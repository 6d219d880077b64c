"""A DVC remote as a place for releases: `dvc://REMOTE/NAME` is what the file `NAME.dvc` beside the runs stands for.

Objects are named by their MD5, so nothing can be overwritten; the list of the release's files goes last, and then
`NAME.dvc` is written, with which `dvc pull` and `dvc get` have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import digest_file
from recorder.errors import TransferError, UsageError
from recorder.release.manifest import RELEASE, FileRecord
from recorder.tracking.dvc_repository import DvcRepository, ObjectStore, find_repository
from recorder.tracking.pointer import Pointer, pointer_path, read_pointer, write_pointer
from recorder.tracking.tree import DirectoryTree, Entry, object_name, parse_directory


class DvcRemote:
    """The release `NAME` in a remote of the DVC repository that holds the folder `runs`."""

    def __init__(self, url: str, runs: Path) -> None:
        remote, _, name = url.removeprefix("dvc://").strip("/").partition("/")
        if not remote or not layout.is_run_id(name):
            raise UsageError(f"{url} names no release in a DVC remote: dvc://REMOTE/NAME")
        root = find_repository(runs)
        if root is None:
            raise UsageError(f"{runs} is in no DVC repository: `dvc init` makes one")
        self.url = f"dvc://{remote}/{name}"
        self._root, self._remote = root, remote
        self._folder = runs / name
        self._put: dict[str, Entry] = {}
        self._flushed = 0

    def list(self) -> dict[str, int]:
        """The size of every file that the release's list names."""
        found = {}
        for path, md5 in self._listed().items():
            size = self._store.size(md5)
            if size is not None:
                found[path] = size
                self._put[path] = Entry(md5, size)
        return found

    def sha256(self, path: str) -> str | None:
        """None: a DVC remote keeps MD5 alone."""
        del path
        return None

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The content of a file from `start` on; what is before it is read as well."""
        entry = self._put.get(path)
        md5 = entry.md5 if entry is not None else self._listed().get(path)
        if md5 is None:
            raise FileNotFoundError(path)
        for block in self._store.read(md5):
            if start < len(block):
                yield block[start:]
            start = max(0, start - len(block))

    def put(self, path: str, source: Path, record: FileRecord, *, replace: bool = False) -> None:
        """Send the object of a file, unless the remote has it."""
        md5 = digest_file(source).md5
        if replace or self._store.size(md5) != record.size:
            self._store.upload(md5, source, lambda: None)
        self._put[path] = Entry(md5, record.size)

    def flush(self) -> None:
        """Once release.json is among the files: send their list, and write the `.dvc` file."""
        if RELEASE not in self._put or self._flushed == len(self._put):
            return
        tree = DirectoryTree()
        for path, entry in self._put.items():
            tree.put(path, entry)
        serialised = tree.serialised()
        name = object_name(serialised)
        listed = self._folder.with_name(f".{self._folder.name}.list")
        listed.write_bytes(serialised)
        try:
            self._store.upload(name, listed, lambda: None)
        finally:
            listed.unlink()
        write_pointer(pointer_path(self._folder), Pointer(name, tree.size, len(tree)), self._folder.name)
        self._flushed = len(self._put)

    @cached_property
    def _store(self) -> ObjectStore:
        return DvcRepository(self._root).remote(self._remote)

    def _listed(self) -> dict[str, str]:
        pointer = read_pointer(pointer_path(self._folder))
        if pointer is None:
            return {}
        try:
            return parse_directory(b"".join(self._store.read(pointer.object)))
        except FileNotFoundError:
            raise TransferError(f"{self.url}: the remote has not {pointer.object}, which its .dvc file names") from None
        except ValueError as error:
            raise TransferError(f"{self.url}: {pointer.object} is damaged: {error}") from None
