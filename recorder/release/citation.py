"""CITATION.cff: how to cite a release, in the Citation File Format 1.2.0."""

from __future__ import annotations

from typing import Any

from recorder.release.contents import Contents
from recorder.release.licences import for_citation

# How the format writes an author of whom nothing is known.
_UNKNOWN = {"name": "anonymous"}
_PERSON = ("family-names", "given-names", "name", "affiliation", "email", "orcid")


def citation(contents: Contents) -> bytes:
    """CITATION.cff. The root of each sealed bundle is an identifier: it stands for every byte of the record."""
    import yaml

    stated = contents.statement
    values: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this release, please cite it as below.",
        "type": "dataset",
        "title": contents.title,
        "authors": [_author(author) for author in stated.authors] or [_UNKNOWN],
        "date-released": contents.date,
        "identifiers": [
            {"type": "other", "value": f"blake3:{bundle.manifest['root']}", "description": f"Root of run {bundle.id}"}
            for bundle in contents.bundles
            if bundle.manifest is not None
        ],
        "abstract": stated.summary,
        **for_citation(contents.licence("model")),
        "url": stated.url,
        "repository-code": stated.repository,
    }
    kept = {key: value for key, value in values.items() if value}
    text: str = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=120)
    return text.encode()


def _author(author: dict[str, str]) -> dict[str, str]:
    return {key: author[key] for key in _PERSON if key in author}
