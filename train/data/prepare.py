"""From text to a folder of token shards, made once and found by the digest of all that determines its bytes."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.canonical import digest_json, readable_json
from recorder.errors import DataError
from train.data.durable import sync_folder, write_durably
from train.data.permutation import PERMUTATION
from train.data.prepared import DATASET_FILE, DATASET_FORMAT, TOKENIZER_FILE, PreparedData, open_prepared
from train.data.shards import SplitWriter, token_type
from train.data.source import Source
from train.data.split import SPLITS, Split, survey
from train.data.stories import StoriesSource
from train.data.text import TextSource
from train.data.tokenizer import BytesTokenizer, CharsTokenizer, Tokenizer

if TYPE_CHECKING:
    from train.config import DataConfig

Progress = Callable[[str], None]


def prepare(config: DataConfig, progress: Progress | None = None) -> PreparedData:
    """The prepared folder of `config`: found under `config.cache` and checked, or made.

    Its name is the digest of what was asked for (source, inputs, licence, tokenizer, split), so another sequence
    length reuses it. It appears whole or not at all: it is written under a hidden name, which a killed process leaves
    behind, and renamed when the disk has it. Processes that prepare the same at once all succeed. Text is read as a
    stream, twice. Raises DataError for unfit input, a damaged folder, or a split shorter than one sequence.
    """
    say = progress or (lambda message: None)
    source = _source(config)
    request = _request(config, source)
    folder = Path(config.cache).resolve() / digest_json(request)
    if folder.exists():
        say(f"found prepared data in {folder}")
    else:
        with _new_folder(folder) as unfinished:
            _write(unfinished, request, source, config, say)
    prepared = open_prepared(folder)
    prepared.check()
    for split in SPLITS:
        prepared.sequences(split, config.sequence_length)
    return prepared


def _source(config: DataConfig) -> Source:
    if config.source == "stories":
        assert config.seed is not None and config.megabytes is not None  # DataConfig's own promise
        return StoriesSource(config.seed, config.megabytes)
    assert config.files is not None and config.text_field is not None
    return TextSource(config.files, config.text_field)


def _request(config: DataConfig, source: Source) -> dict[str, Any]:
    """The part of dataset.json that is known before the text is read."""
    return {
        "format": DATASET_FORMAT,
        "source": source.describe(),
        "inputs": [{"path": file.name, "bytes": file.size, "blake3": file.digest} for file in source.inputs],
        "licence": config.licence,
        "tokenizer": {"kind": config.tokenizer},
        "split": {"validation_fraction": config.validation_fraction},
        "order": PERMUTATION,
    }
