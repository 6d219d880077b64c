import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from train.config import DataConfig

WriteJsonl = Callable[..., Path]
MakeConfig = Callable[..., DataConfig]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write_jsonl(folder: Path) -> WriteJsonl:
    def write(name: str, texts: list[str], field: str = "text") -> Path:
        path = folder / name
        path.write_text("".join(json.dumps({"id": n, field: text}) + "\n" for n, text in enumerate(texts)))
        return path

    return write


@pytest.fixture
def text_config(folder: Path) -> MakeConfig:
    def make(*files: str, **changes: Any) -> DataConfig:
        values: dict[str, Any] = {
            "source": "text", "tokenizer": "bytes", "sequence_length": 8, "validation_fraction": 0.25, "licence": None,
            "cache": "cache", "files": list(files), "text_field": "text",
        }  # fmt: skip
        return DataConfig(**(values | changes))

    return make


@pytest.fixture
def stories_config(folder: Path) -> MakeConfig:
    def make(**changes: Any) -> DataConfig:
        values: dict[str, Any] = {
            "source": "stories", "tokenizer": "chars", "sequence_length": 32, "validation_fraction": 0.1,
            "licence": "CC0-1.0", "cache": "cache", "megabytes": 0.2, "seed": 1,
        }  # fmt: skip
        return DataConfig(**(values | changes))

    return make
