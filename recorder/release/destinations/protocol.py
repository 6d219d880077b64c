"""What a place can do that releases are read from, or published to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from recorder.errors import TransferError
from recorder.release.manifest import FileRecord

BLOCK = 4 << 20


class NotListed(TransferError):
    """A place gives the files that it is asked for, and does not say which others it has."""


class Source(Protocol):
    """A place from which a release can be read. Failures to reach it are TransferErrors that name it."""

    url: str

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The content of a file from the byte `start` on, in blocks.

        Raises FileNotFoundError when it is not there; TransferError.
        """

    def list(self) -> dict[str, int]:
        """The size of every file, by path. Empty where there is nothing yet. Raises NotListed, TransferError."""


class Destination(Source, Protocol):
    """A place where a release can be published.

    A file is there whole or not at all. Nothing that is there is replaced, unless `replace` says so.
    """

    def sha256(self, path: str) -> str | None:
        """The SHA-256 that the place keeps for a file; None when it keeps none. It is said, not computed."""

    def put(self, path: str, source: Path, record: FileRecord, *, replace: bool = False) -> None:
        """Put the file `source`, whose record is `record`; an interrupted call goes on where it was.

        It need not be visible before `flush`. Raises TransferError, RecordingError for a full disk.
        """

    def flush(self) -> None:
        """Make everything that was put visible. Raises TransferError."""


class Changeable(Destination, Protocol):
    """A destination from which files can be taken away again."""

    def remove(self, path: str) -> None:
        """Take a file away, at once; nothing happens where there is none. Raises TransferError, RecordingError."""

    def what_stays(self) -> str | None:
        """What the place keeps of files that were taken away, in a sentence; None where it keeps nothing."""
