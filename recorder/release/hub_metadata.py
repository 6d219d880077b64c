"""The metadata of a model card, in the words of the Hugging Face Hub: the YAML at the head of README.md."""

from __future__ import annotations

from typing import Any

from recorder.release.contents import Contents
from recorder.release.export import WEIGHTS
from recorder.release.licences import for_hub


def metadata(contents: Contents) -> dict[str, Any]:
    """The card's metadata in the Hub's words."""
    stated = contents.statement
    values: dict[str, Any] = {"language": list(stated.languages)} if stated.languages else {}
    values |= for_hub(contents.licence("model"))
    if contents.exported is not None and WEIGHTS in contents.files:
        values |= {"library_name": "transformers", "pipeline_tag": "text-generation"}
    return values | {"tags": ["run-recorder"]}


def front_matter(contents: Contents) -> str:
    """The same as YAML between its rules."""
    import yaml

    return f"---\n{yaml.safe_dump(metadata(contents), sort_keys=False, allow_unicode=True)}---"
