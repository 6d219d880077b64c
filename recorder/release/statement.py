"""What those who publish say of a release and no record can know: authors, licences, what it is for.

A YAML file, every key optional; what is not stated is called "not stated" wherever it would be, and never guessed:

    title: Stories 1M
    summary: A small model of short English stories.
    authors: [{given-names: Ada, family-names: Lovelace, orcid: "https://orcid.org/0000-0000-0000-0000"}]
    licences: {model: Apache-2.0, code: Apache-2.0, documents: CC-BY-4.0, data: CC0-1.0}    # SPDX ids
    languages: [en]
    url: https://example.org/stories
    repository: https://example.org/stories.git
    intended_use: ...
    limitations: ...
    data_card: https://...
    technical_report: https://...
    research_paper: https://...
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from recorder.canonical import readable_json
from recorder.errors import UsageError

STATEMENT = "statement.json"
PARTS = ("model", "code", "documents", "data")
_PERSON = ("given-names", "family-names", "name", "orcid", "affiliation", "email")
_ADDRESSES = ("url", "repository", "data_card", "technical_report", "research_paper")
_ADDRESS = re.compile(r"https?://[^\s<>\"]+")
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_ORCID = re.compile(r"https://orcid\.org/\d{4}-\d{4}-\d{4}-\d{3}[\dX]")


@dataclass(frozen=True)
class Statement:
    """The values of the file; None and empty where nothing is stated."""

    title: str | None = None
    summary: str | None = None
    authors: tuple[dict[str, str], ...] = ()
    licences: dict[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    url: str | None = None
    repository: str | None = None
    intended_use: str | None = None
    limitations: str | None = None
    data_card: str | None = None
    technical_report: str | None = None
    research_paper: str | None = None

    def data(self) -> bytes:
        """The bytes of statement.json: what is stated and nothing else, the same for the same statement."""
        return readable_json({key: value for key, value in asdict(self).items() if value})


def read_statement(path: Path) -> Statement:
    """Read the file. Raises UsageError, in one line that names key and cure, for what cannot be used."""
    import yaml

    data = read_file(path)
    try:
        values = yaml.safe_load(data)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    try:
        return parse_statement({} if values is None else values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def read_file(path: Path) -> bytes:
    """The content of the file. Raises UsageError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the statement {path} cannot be read: {error.strerror}") from None


def kept_statement(path: Path) -> Statement:
    """Read the statement.json that a release keeps. Raises UsageError as `read_statement` does, OSError."""
    try:
        return parse_statement(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from None


def parse_statement(values: Any) -> Statement:
    """The statement that `values` make. Raises UsageError as `read_statement` does."""
    allowed = [item.name for item in fields(Statement)]
    _check_keys(values, allowed, "a statement")
    checked = {
        key: _text(key, value) for key, value in values.items() if key not in {"authors", "licences", "languages"}
    }
    for key in _ADDRESSES:
        if key in checked and not _ADDRESS.fullmatch(checked[key]):
            raise UsageError(f"{key} must be a web address, https://…, not {checked[key]!r}")
    return Statement(
        **checked,
        authors=tuple(_author(item) for item in _list("authors", values.get("authors"))),
        licences=_licences(values.get("licences")),
        languages=tuple(_text("languages", item) for item in _list("languages", values.get("languages"))),
    )


def _author(item: Any) -> dict[str, str]:
    _check_keys(item, _PERSON, "an author")
    author = {key: _text(f"authors: {key}", value) for key, value in item.items()}
    if "name" in author and author.keys() & {"given-names", "family-names"}:
        raise UsageError("authors: name is for an organisation; a person has given-names and family-names")
    if not author.keys() & {"name", "family-names", "given-names"}:
        raise UsageError("authors: each needs given-names and family-names, or name for an organisation")
    if "orcid" in author and not _ORCID.fullmatch(author["orcid"]):
        raise UsageError(
            f"authors: orcid must look like https://orcid.org/0000-0000-0000-0000, not {author['orcid']!r}"
        )
    return author


def _licences(values: Any) -> dict[str, str]:
    if values is None:
        return {}
    _check_keys(values, PARTS, "licences")
    found = {key: _text(f"licences: {key}", value) for key, value in values.items()}
    for key, licence in found.items():
        if not _SPDX.fullmatch(licence):
            raise UsageError(f"licences: {key} must be an SPDX id such as Apache-2.0, not {licence!r}")
    return found


def _check_keys(values: Any, allowed: list[str] | tuple[str, ...], what: str) -> None:
    if not isinstance(values, dict):
        raise UsageError(f"{what} must have keys and values; keys are {', '.join(allowed)}")
    for key in values:
        if key not in allowed:
            raise UsageError(f"{what} has no key {key!r}; there are {', '.join(allowed)}")


def _list(key: str, value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise UsageError(f"{key} must be a list")
    return value or []


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{key} must be text, not {value!r}")
    return value.strip()
