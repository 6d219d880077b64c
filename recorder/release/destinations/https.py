"""Releases on a web server, read-only: what is there is what release.json says. Needs nothing but Python."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recorder.capture.urls import without_credentials
from recorder.errors import TransferError
from recorder.release.destinations.protocol import BLOCK, NotListed

_TIMEOUT_SECONDS = 60
_NOT_THERE = (404, 410)
_PARTIAL_CONTENT, _NOTHING_LEFT = 206, 416
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="next"')


class WebFolder:
    """What lies below the address `base`. `token` is sent to that host alone, never where it redirects to."""

    def __init__(self, base: str, token: str | None = None) -> None:
        self._base = base.rstrip("/")
        self._token = token
        self.url = without_credentials(self._base)

    def address(self, path: str) -> str:
        """The address of a file."""
        return f"{self._base}/{urllib.parse.quote(path)}"

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The content of a file from `start` on; a server that knows no ranges sends all of it, and is heard out."""
        ranged = {"Range": f"bytes={start}-"} if start else {}
        with _errors(self.url, path):
            try:
                answer = _asked(self.address(path), self._token, ranged)
            except urllib.error.HTTPError as error:
                if error.code != _NOTHING_LEFT:
                    raise
                error.close()
                return
            with answer:
                skip = 0 if answer.status == _PARTIAL_CONTENT else start
                while block := answer.read1(BLOCK):
                    if skip < len(block):
                        yield block[skip:]
                    skip = max(0, skip - len(block))
                if (left := answer.length) is not None and left > 0:
                    raise TransferError(f"{self.url}: {path} broke off, {left} bytes before its end")

    def list(self) -> dict[str, int]:
        """Nothing: raises NotListed."""
        raise NotListed(f"{self.url}: a web server does not say which files it has")


def read_json(url: str, address: str, token: str | None) -> tuple[Any, str | None]:
    """What the interface of a server answers at `address`, and the address of the next page; `url` is for errors.

    Raises FileNotFoundError, TransferError.
    """
    with _errors(url, "its list"), _asked(address, token, {}) as answer:
        try:
            document = json.loads(answer.read())
        except ValueError as error:
            raise TransferError(f"{url}: its list is no JSON: {error}") from None
        following = _NEXT.search(answer.headers.get("Link", ""))
        return document, following[1] if following else None


def _asked(address: str, token: str | None, headers: dict[str, str]) -> Any:
    """The server's answer. The token is not sent to where it redirects to."""
    request = urllib.request.Request(address, headers=headers)
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)


@contextmanager
def _errors(url: str, what: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _NOT_THERE:
            raise FileNotFoundError(what) from None
        hint = " (a token or permission is missing, or was revoked)" if error.code in {401, 403} else ""
        raise TransferError(f"{url}: {what}: HTTP {error.code} {error.reason}{hint}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TransferError(f"{url}: {what}: {reason or type(error).__name__}") from None


def hub_folder(repository: str, revision: str, token: str | None) -> WebFolder:
    """The files of one revision on the Hub (or HF_ENDPOINT)."""
    quoted = urllib.parse.quote(revision, safe="")
    return WebFolder(f"{hub_endpoint()}/{repository}/resolve/{quoted}", token)


def hub_endpoint() -> str:
    """The address of the Hub, or of what HF_ENDPOINT names in its place."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
