"""From text to a folder of token shards, made once and found by the digest of all that determines its bytes."""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bundle.files import sync_folder, write_file
from recorder.canonical import digest_json, readable_json
from recorder.errors import DataError
from recorder.tracking.workspace import lasting
from train.data.permutation import PERMUTATION
from train.data.prepared import DATASET_FILE, DATASET_FORMAT, TOKENIZER_FILE, PreparedData, open_prepared
from train.data.shards import SHARD_BYTES, SplitWriter, token_type
from train.data.source import Source
from train.data.split import SPLITS, Split, Survey, survey
from train.data.stories import StoriesSource
from train.data.text import TextSource
from train.data.tokenizer import BytesTokenizer, CharsTokenizer, Tokenizer

if TYPE_CHECKING:
    from train.config import DataConfig

Progress = Callable[[str], None]

_UNFINISHED, _LOCK = ".preparing-", ".lock"


def prepare(config: DataConfig, progress: Progress | None = None) -> PreparedData:
    """The prepared folder of `config`: found under `config.cache` and checked, or made.

    Its name is the digest of what was asked for (source, inputs, licence, tokenizer, split), so another sequence
    length reuses it. It appears whole or not at all: it is written under a hidden name and renamed when the disk has
    it; what a killed process left under such a name is removed by the next. Processes that prepare the same at once all
    succeed. Text is read as a stream, twice. Raises DataError for unfit input, a damaged folder, or a split shorter
    than one sequence.
    """
    say = progress or (lambda _: None)
    source = _source(config)
    request = _request(config, source)
    folder = lasting(Path(config.cache)).resolve() / digest_json(request)
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
        assert config.seed is not None  # DataConfig promises these four
        assert config.megabytes is not None
        return StoriesSource(config.seed, config.megabytes)
    assert config.files is not None
    assert config.text_field is not None
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


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, which becomes `folder` when the block ends well and vanishes when it does not."""
    unfinished = folder.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
    lock = unfinished.with_suffix(_LOCK)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        # Locked before the folder is there: a folder that nobody has locked is abandoned.
        with lock.open("xb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            unfinished.mkdir()
            yield unfinished
            sync_folder(unfinished)
            try:
                unfinished.replace(folder)
            except OSError:
                # Another process may have been first: its folder has the same bytes.
                if not folder.exists():
                    raise
            sync_folder(folder.parent)
    except OSError as error:
        raise DataError(
            f"data.cache: prepared data cannot be written to {folder.parent}: {error.strerror}; "
            "make room there or set data.cache to another folder"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        with suppress(OSError):
            lock.unlink(missing_ok=True)


def _remove_abandoned(cache: Path) -> None:
    """Remove what killed processes were filling. A lock ends with its process, however that ends."""
    for unfinished in cache.glob(f"{_UNFINISHED}*/"):
        lock = unfinished.with_suffix(_LOCK)
        # Held by a living process, or not ours to remove.
        with suppress(OSError), lock.open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(unfinished)
            lock.unlink()


def _write(folder: Path, request: dict[str, Any], source: Source, config: DataConfig, say: Progress) -> None:
    say(f"reading {source.name}")
    found = survey(source, config.validation_fraction)
    tokenizer: Tokenizer = BytesTokenizer() if config.tokenizer == "bytes" else CharsTokenizer(found.alphabet)
    split = found.split(config.validation_fraction)
    say(f"writing the tokens of {found.documents:,} documents, {found.characters:,} characters, to {folder.parent}")
    splits = _write_splits(folder, source, tokenizer, split)
    write_file(folder / TOKENIZER_FILE, readable_json(tokenizer.to_json()))
    write_file(folder / DATASET_FILE, readable_json(_record(request, found, tokenizer, split, splits)))


def _write_splits(folder: Path, source: Source, tokenizer: Tokenizer, split: Split) -> dict[str, dict[str, Any]]:
    with ExitStack() as stack:
        train, validation = (stack.enter_context(SplitWriter(folder, name, tokenizer, SHARD_BYTES)) for name in SPLITS)
        document = position = offset = 0  # of the piece: its document, and characters and tokens before it in that
        for piece in source.pieces():
            limit = split.training_characters(document)
            cut = len(piece.text) if limit is None else max(0, limit - position)
            offset += train.add(document, offset, piece.text[:cut])
            offset += validation.add(document, offset, piece.text[cut:])
            position += len(piece.text)
            if piece.ends_document:
                document, position, offset = document + 1, 0, 0
        return dict(zip(SPLITS, (train.close(), validation.close()), strict=True))


def _record(
    request: dict[str, Any], found: Survey, tokenizer: Tokenizer, split: Split, splits: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """dataset.json. `content` digests what training reads, so it is equal wherever the inputs lie."""
    first = [0, *accumulate(found.documents_of_input)]
    inputs = [
        entry | {"first_document": first[number], "documents": found.documents_of_input[number]}
        for number, entry in enumerate(request["inputs"])
    ]
    return request | {
        "address": digest_json(request),
        "content": digest_json({"tokenizer": tokenizer.digest, "splits": splits}),
        "inputs": inputs,
        "documents": found.documents,
        "characters": found.characters,
        "tokenizer": {
            "file": TOKENIZER_FILE,
            "kind": tokenizer.kind,
            "vocabulary_size": tokenizer.vocabulary_size,
            "end_of_document": tokenizer.end_of_document,
            "blake3": tokenizer.digest,
        },
        "token_type": token_type(tokenizer.vocabulary_size),
        "byte_order": "little",
        "split": request["split"] | split.describe(),
        "splits": splits,
    }
