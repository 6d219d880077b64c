"""ro-crate-metadata.json: the release as an RO-Crate 1.1 after the Process Run Crate profile 0.5.

https://w3id.org/ro/crate/1.1 and https://w3id.org/ro/wfrun/process/0.5. Each attempt of each run is a `CreateAction`,
failed ones included: its instrument is the training program as archived, its objects are config, data record and
environment, its results are the segments, logs and checkpoints it left. The crate lists what the release holds; digests
are in it for programs, and the signature and release.json are what vouches for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from recorder.bundle import layout
from recorder.bundle.course import Attempt
from recorder.bundle.reader import Bundle
from recorder.canonical import readable_json
from recorder.ledger import events
from recorder.release.contents import CRATE, Contents
from recorder.release.licences import address

_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_CONTEXT = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
_COMPLETED, _FAILED = "http://schema.org/CompletedActionStatus", "http://schema.org/FailedActionStatus"
_OBJECTS = (
    layout.RESOLVED_CONFIG,
    layout.DATASET,
    layout.TOKENIZER,
    layout.SOURCE_ARCHIVE,
    layout.REQUIREMENTS,
    layout.SYSTEM,
)
_TYPES = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "yaml": "application/yaml",
    "md": "text/markdown",
    "txt": "text/plain",
    "log": "text/plain",
    "patch": "text/x-diff",
    "html": "text/html",
    "gz": "application/gzip",
    "parquet": "application/vnd.apache.parquet",
    "safetensors": "application/octet-stream",
    "cff": "application/yaml",
}

Entity = dict[str, Any]


def ro_crate(contents: Contents) -> bytes:
    """ro-crate-metadata.json; it lists every file of `contents`."""
    graph = [_descriptor(), _root(contents), *_context_entities(contents), *_files(contents)]
    for bundle in contents.bundles:
        graph += [_program(bundle), *_actions(contents, bundle)]
    return readable_json(
        {"@context": _CONTEXT, "@graph": [{k: v for k, v in e.items() if v is not None} for e in graph]}
    )


def _descriptor() -> Entity:
    return {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
    }


def _root(contents: Contents) -> Entity:
    runs = ", ".join(bundle.id for bundle in contents.bundles)
    actions = [{"@id": _action_id(bundle, attempt)} for bundle in contents.bundles for attempt in bundle.attempts]
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": contents.title,
        "description": contents.statement.summary or f"Record of the training run {runs}, with its checkpoints.",
        "datePublished": contents.created,
        "license": {"@id": _licence_id(contents)},
        "author": [{"@id": _author_id(number, author)} for number, author in enumerate(contents.statement.authors)]
        or None,
        "url": contents.statement.url,
        "conformsTo": {"@id": _PROFILE},
        "hasPart": [{"@id": quote(path)} for path in sorted(contents.files)],
        "mentions": actions,
    }


def _context_entities(contents: Contents) -> Iterator[Entity]:
    yield {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    licence = contents.licence("model")
    yield {
        "@id": _licence_id(contents),
        "@type": "CreativeWork",
        "name": licence or "Not stated",
        "description": f"SPDX id {licence}"
        if licence
        else "Those who publish the release state no licence for the model.",
    }
    for number, author in enumerate(contents.statement.authors):
        person = f"{author.get('given-names', '')} {author.get('family-names', '')}".strip()
        yield {
            "@id": _author_id(number, author),
            "@type": "Organization" if "name" in author else "Person",
            "name": author.get("name") or person,
            "affiliation": author.get("affiliation"),
        }


def _files(contents: Contents) -> Iterator[Entity]:
    for path, record in sorted(contents.files.items()):
        yield {
            "@id": quote(path),
            "@type": "File",
            "name": path,
            "contentSize": str(record["size"]),
            "encodingFormat": _TYPES.get(path.rpartition(".")[2], "application/octet-stream"),
            "sha256": record["sha256"],
        }


def _program(bundle: Bundle) -> Entity:
    """The training program; its version is the commit, or the digest of the archive where there is none."""
    source = bundle.document(layout.SOURCE) or {}
    archive = (source.get("archive") or {}).get("blake3")
    version = source.get("commit") or (f"blake3:{archive}" if archive else None)
    changed = " with the changes in the source archive" if source.get("dirty") else ""
    return {
        "@id": _program_id(bundle),
        "@type": "SoftwareApplication",
        "name": f"Training program of {bundle.id}",
        "description": f"As archived in the bundle{changed}.",
        "softwareVersion": version or "not recorded",
        "url": source.get("remote_url"),
    }


def _actions(contents: Contents, bundle: Bundle) -> Iterator[Entity]:
    results = _results(contents, bundle)
    for attempt in bundle.attempts:
        end = attempt.heard if attempt.recovered else attempt.ended
        failed = attempt.outcome not in {None, "finished"}
        command = attempt.command if isinstance(attempt.command, str) else " ".join(attempt.command or [])
        yield {
            "@id": _action_id(bundle, attempt),
            "@type": "CreateAction",
            "name": f"Attempt {attempt.number} of run {bundle.id}",
            "description": f"`{command}`: {attempt.outcome or 'how it ended is not known'}",
            "instrument": {"@id": _program_id(bundle)},
            "startTime": _milliseconds(attempt.started),
            "endTime": _milliseconds(end) if end else None,
            "actionStatus": (_FAILED if failed else _COMPLETED) if attempt.outcome else None,
            "error": _error(contents, bundle, attempt) if failed else None,
            "object": _references(contents.published(bundle, _version(bundle, path, attempt)) for path in _OBJECTS),
            "result": _references(results.get(attempt.number, [])),
        }


def _version(bundle: Bundle, path: str, attempt: Attempt) -> str:
    """The captured file as this attempt had it: the newest version written by then."""
    later = [layout.version(path, number) for number in range(attempt.number, 1, -1)]
    return next((name for name in later if (bundle.path / name).is_file()), path)


def _error(contents: Contents, bundle: Bundle, attempt: Attempt) -> str:
    """The outcome, and the last exception of the attempt if one was recorded."""
    raised = [
        told.fields for told in contents.told(bundle, events.EXCEPTION) if told.event["attempt"] == attempt.number
    ]
    if not raised:
        return str(attempt.outcome)
    return f"{attempt.outcome}: {raised[-1].get('kind')}: {raised[-1].get('message')}"


def _results(contents: Contents, bundle: Bundle) -> dict[int, list[str | None]]:
    """The released files that each attempt left, as the ledger tells."""
    found: dict[int, list[str | None]] = {}
    for told in contents.told(bundle, events.SEGMENT_CLOSED, events.LOG_CLOSED, events.CHECKPOINT_SAVED):
        paths = [str(told.fields["path"])]
        if told.event["type"] == events.CHECKPOINT_SAVED:
            paths = [f"{paths[0]}/{name}" for name in sorted(told.fields["files"])]
        found.setdefault(told.event["attempt"], []).extend(contents.published(bundle, path) for path in paths)
    return found


def _milliseconds(time: str) -> str:
    """A recorded UTC time in the form that the profile asks for; what is below a millisecond is cut off."""
    return f"{time[:23]}+00:00"


def _references(places: Iterable[str | None]) -> list[Entity] | None:
    return [{"@id": quote(place)} for place in dict.fromkeys(places) if place] or None


def _program_id(bundle: Bundle) -> str:
    return f"#program-{bundle.id}"


def _action_id(bundle: Bundle, attempt: Attempt) -> str:
    return f"#{bundle.id}-attempt-{attempt.number}"


def _licence_id(contents: Contents) -> str:
    licence = contents.licence("model")
    return address(licence) if licence else "#licence-not-stated"


def _author_id(number: int, author: dict[str, str]) -> str:
    return author.get("orcid") or f"#author-{number + 1}"
