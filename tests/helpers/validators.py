"""The programs that others check our descriptions with. They live in an environment of their own: `make validators`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

_ENVIRONMENT = Path(os.environ.get("RECORDER_VALIDATORS") or Path(__file__).parents[2] / ".venv-validators")
_CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_SCHEMA = "http://schema.org/"

# The terms that our crates use, as the context of RO-Crate 1.1 defines them: the validator runs without a network.
_TERMS = {
    term: _SCHEMA + term
    for term in (
        *("CreateAction", "CreativeWork", "Dataset", "Organization", "Person", "SoftwareApplication"),
        *("about", "actionStatus", "affiliation", "author", "contentSize", "datePublished", "description"),
        *("encodingFormat", "endTime", "error", "hasPart", "instrument", "license", "mentions", "name", "object"),
        *("result", "softwareVersion", "startTime", "url", "version"),
    )
} | {"File": f"{_SCHEMA}MediaObject", "conformsTo": "http://purl.org/dc/terms/conformsTo"}

_WARM = """
import io, sys
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from urllib3 import HTTPResponse
cache, address, context = sys.argv[1:]
class Answer(HTTPAdapter):
    def send(self, request, **_):
        headers = {"Content-Type": "application/ld+json"}
        body = io.BytesIO(context.encode())
        return self.build_response(request, HTTPResponse(body, headers, status=200, preload_content=False))
session = CachedSession(cache_name=cache, backend="sqlite", expire_after=-1)
session.mount("https://", Answer())
session.get(address)
"""


def terms_without_definition(crate: bytes) -> set[str]:
    """The terms and types of a crate that neither it nor `_TERMS` defines."""
    document = json.loads(crate)
    types = {kind for entity in document["@graph"] for kind in _listed(entity["@type"])}
    used = {term for entity in document["@graph"] for term in entity if not term.startswith("@")} | types
    return used - _TERMS.keys() - {term for part in document["@context"] if isinstance(part, dict) for term in part}


def program(name: str) -> str:
    """A program of the environment; skips the test where that is missing."""
    path = _ENVIRONMENT / "bin" / name
    if not path.exists():
        pytest.skip(f"{_ENVIRONMENT} has no {name}: make validators")
    return str(path)


def validate_crate(folder: Path, scratch: Path, severity: str = "required") -> tuple[bool, str]:
    """Whether `rocrate-validator validate -p process-run-crate-0.5` passes `folder`, and what it printed."""
    cache = str(scratch / "http-cache")
    context = json.dumps({"@context": _TERMS})
    subprocess.run([program("python"), "-c", _WARM, cache, _CONTEXT, context], check=True, timeout=60)
    command = [program("rocrate-validator"), "--no-interactive", "--disable-color", "validate", "--offline"]
    command += ["--cache-path", cache, "--no-paging", "--verbose", "-p", "process-run-crate-0.5", "-l", severity]
    report = scratch / "report.json"
    done = _run([*command, "-f", "json", "-o", str(report), str(folder)])
    passed = report.exists() and json.loads(report.read_bytes())["passed"] is True
    return passed and done.returncode == 0, done.stdout + done.stderr + (report.read_text() if report.exists() else "")


def validate_citation(path: Path) -> tuple[bool, str]:
    """Whether `cffconvert --validate` passes the file, and what it printed."""
    done = _run([program("cffconvert"), "--validate", "-i", str(path)])
    return done.returncode == 0, done.stdout + done.stderr


def validate_croissant(path: Path) -> tuple[bool, str]:
    """Whether `mlcroissant validate` passes the file without a warning about what it must have, and what it printed."""
    done = _run([program("mlcroissant"), "validate", "--jsonld", str(path)])
    return done.returncode == 0, done.stdout + done.stderr


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]
