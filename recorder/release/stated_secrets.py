"""Secrets in what the publisher writes, and in the texts at the top of a release, made of that and of the record."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from recorder.release.secrets.gate import Finding, scan_file, scan_text
from recorder.release.secrets.scanner import Scanner


def stated_secrets(statement: Path | None, withhold: Collection[str]) -> list[dict[str, Any]]:
    """Credentials in the statement and in what is withheld with its reasons, as records of findings.

    `run` is the option of the command line that they came with. Names are no findings: who publishes states them.
    """
    scanner, found = Scanner(), []
    if statement is not None:
        found += _records("--statement", scan_file(statement, statement.name, scanner))
    for asked in withhold:
        found += _records("--withhold", scan_text(asked, asked.partition("=")[0], scanner))
    return found


def top_secrets(stage: Path) -> list[dict[str, Any]]:
    """Credentials in the files at the top of the release in `stage`, as records of findings."""
    scanner, found = Scanner(), []
    for path in sorted(path for path in stage.iterdir() if path.is_file()):
        if path.suffix == ".html":
            # As it is read, so that a secret is the same, and has the same fingerprint, as where it came from.
            text = html.unescape(path.read_text(errors="surrogateescape"))
            found += _records("", scan_text(text, path.name, scanner, is_code=True))
        else:
            found += _records("", scan_file(path, path.name, scanner))
    return found


def _records(run: str, found: Iterator[Finding]) -> list[dict[str, Any]]:
    return [{"run": run, **finding.record()} for finding in found if not finding.private]
