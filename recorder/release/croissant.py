"""croissant.json: the training data in MLCommons Croissant 1.0, when a release holds its files.

http://mlcommons.org/croissant/1.0. Every released file below `data/` is a FileObject with its SHA-256; of `.jsonl`
files the documents are a record set. Token shards are described as files: the format has no words for their content,
which data/dataset.json of the bundle defines.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from recorder.canonical import readable_json
from recorder.release.contents import Contents
from recorder.release.licences import address

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {".txt": "text/plain", ".jsonl": "application/jsonlines", ".json": "application/json"}


def croissant(contents: Contents) -> bytes | None:
    """croissant.json; None where the release holds no data."""
    files = contents.data_files()
    if not files:
        return None
    licence = contents.licence("data")
    stated = contents.statement
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"Training data of {contents.title}",
        "description": f"What the runs {', '.join(bundle.id for bundle in contents.bundles)} were trained on.",
        "license": address(licence) if licence else None,
        "url": stated.url,
        "creator": [_creator(author) for author in stated.authors] or None,
        "datePublished": contents.created,
        "distribution": [_file(contents, path) for path in files],
        "recordSet": [_records(path, contents) for path in files if path.endswith(".jsonl")] or None,
    }
    return readable_json({key: value for key, value in described.items() if value is not None})


def _file(contents: Contents, path: str) -> dict[str, Any]:
    record = contents.files[path]
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": quote(path),
        "contentSize": f"{record['size']} B",
        "encodingFormat": _TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"),
        "sha256": record["sha256"],
    }


def _records(path: str, contents: Contents) -> dict[str, Any]:
    """The documents of a .jsonl file: the field that held the text in training."""
    configs = [bundle.config.get("data") for bundle in contents.bundles]
    column = next(
        (config["text_field"] for config in configs if isinstance(config, dict) and config.get("text_field")), "text"
    )
    name = f"{path}/documents"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "dataType": "sc:Text",
                "source": {"fileObject": {"@id": path}, "extract": {"column": column}},
            }
        ],
    }


def _creator(author: dict[str, str]) -> dict[str, str]:
    name = author.get("name") or f"{author.get('given-names', '')} {author.get('family-names', '')}".strip()
    return {"@type": "sc:Organization" if "name" in author else "sc:Person", "name": name}
