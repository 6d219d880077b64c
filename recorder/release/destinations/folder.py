"""A folder as a place for releases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recorder.bundle.files import recording_errors, sync_folder
from recorder.errors import TransferError, UsageError
from recorder.release.destinations.protocol import BLOCK
from recorder.release.manifest import FileRecord
from recorder.release.receive import PARTIAL, clear_begun, is_begun, receive


class Folder:
    """The folder `path`, which need not exist. Unfinished files are kept in `.partial` below it."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is not a folder; name a folder, s3://, hf://, dvc:// or https://")
        self.path = path
        self.url = str(path)

    def list(self) -> dict[str, int]:
        """The size of every file; what is unfinished is none."""
        found = {}
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if path.is_symlink():
                raise TransferError(f"{self.url}: {name} is a link; a release holds none")
            if not path.is_dir() and not (path.parent == self.path / PARTIAL and is_begun(path.name)):
                found[name] = path.stat().st_size
        return found

    def sha256(self, path: str) -> str | None:
        """None: a folder keeps no digests."""
        del path
        return None

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The content of a file from `start` on."""
        try:
            with (self.path / path).open("rb") as file:
                file.seek(start)
                while block := file.read(BLOCK):
                    yield block
        except FileNotFoundError:
            raise
        except OSError as error:
            raise TransferError(f"{self.url}: {path}: {error.strerror}") from error

    def put(self, path: str, source: Path, record: FileRecord, *, replace: bool = False) -> None:
        """Copy `source`, checking the digests of what was written."""
        target = self.path / path
        if replace:
            target.unlink(missing_ok=True)
        receive(Folder(source.parent), source.name, target, self.path / PARTIAL, record)

    def remove(self, path: str) -> None:
        """Delete a file, and the folders that are empty then."""
        target = self.path / path
        with recording_errors(target):
            target.unlink(missing_ok=True)
            folder = target.parent
            while folder != self.path and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent
            if folder.is_dir():
                sync_folder(folder)

    def what_stays(self) -> str | None:
        """None: a folder keeps nothing."""
        return None

    def flush(self) -> None:
        """Nothing waits; what was begun and came to nothing is not needed any more."""
        clear_begun(self.path / PARTIAL)
