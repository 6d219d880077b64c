"""From what a person types to a place for releases. What a place needs is imported when it is named."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from recorder.errors import UsageError
from recorder.release.destinations.folder import Folder
from recorder.release.destinations.protocol import Destination, Source

_KNOWN = "a folder, s3://BUCKET/PREFIX, hf://ORGANISATION/NAME or dvc://REMOTE/NAME"


def is_address(text: str) -> bool:
    """Whether `text` names a place that is not a folder."""
    return "://" in text


def open_destination(text: str, runs: Path) -> Destination:
    """Where `text` says a release is to go; `runs` is the folder of the bundles. Raises UsageError, MachineError."""
    scheme = _scheme(text)
    if scheme == "s3":
        from recorder.release.destinations.s3 import S3Prefix

        return S3Prefix(text)
    if scheme == "hf":
        from recorder.release.destinations.hub import HubRepository

        return HubRepository(text)
    if scheme == "dvc":
        from recorder.release.destinations.dvc_remote import DvcRemote

        return DvcRemote(text, runs)
    if scheme in {"http", "https"}:
        raise UsageError(f"{text} can only be read: publish to {_KNOWN}")
    if scheme or not text:
        raise UsageError(f"{text!r} is no place for a release: name {_KNOWN}")
    return Folder(Path(text))


def open_source(text: str, runs: Path) -> Source:
    """Where `text` says that a release is; as `open_destination`, and https:// as well."""
    scheme = _scheme(text)
    if scheme in {"http", "https"}:
        from recorder.release.destinations.https import WebFolder

        return WebFolder(text)
    if scheme == "hf":
        from recorder.release.destinations.hub import HubFiles

        return HubFiles(text)
    return open_destination(text, runs)


def _scheme(text: str) -> str:
    """What stands before `://`; empty for a folder. Raises UsageError for an address that cannot be one."""
    if not is_address(text):
        return ""
    try:
        urlsplit(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no address ({error}): name {_KNOWN}") from None
    return text.partition("://")[0]
