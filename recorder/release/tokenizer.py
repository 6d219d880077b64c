"""A run's tokenizer as the files that `transformers.AutoTokenizer` loads, in the format of the `tokenizers` library.

Text has the same ids as in training, and ids read as the same text, but for the end of a document: it is the special
token `<|endoftext|>` here. As with every special token, text that spells it out becomes that token unless
`split_special_tokens=True` is given. As in training, a character that the corpus does not have is an error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.canonical import digest_json
from recorder.errors import BundleError, UsageError

END_OF_DOCUMENT = "<|endoftext|>"
# Asked for by the library and in no vocabulary: with it a character without an id is an error and not lost.
_NOT_THERE = "<|unknown|>"
_BYTES = {"format": 1, "kind": "bytes", "vocabulary_size": 256, "end_of_document": 255}

Json = dict[str, Any]


def read_tokenizer(bundle: Bundle, given: Path | None = None) -> Json:
    """All that makes the run's tokenizer: its data/tokenizer.json, or the file `given` for a run that recorded none.

    It has the digest in data/dataset.json. Raises UsageError where nothing has, or `given` has another; BundleError for
    a damaged record.
    """
    dataset = bundle.document(layout.DATASET)
    recorded = (dataset or {}).get("tokenizer")
    if not isinstance(recorded, dict) or not isinstance(expected := recorded.get("blake3"), str):
        raise BundleError(f"{layout.DATASET} of {bundle.id} names no tokenizer; the run cannot be exported")
    if given is not None:
        try:
            value = json.loads(given.read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"the tokenizer {given} cannot be read: {error}") from None
        if digest_json(value) != expected:
            raise UsageError(f"{given} is not the tokenizer of {bundle.id}: its digest is not that in {layout.DATASET}")
        return _known(value)
    found = bundle.document(layout.TOKENIZER)
    if found is None and digest_json(_BYTES) == expected:
        found = _BYTES
    if found is None:
        raise UsageError(
            f"{bundle.id} has no {layout.TOKENIZER}: an older version recorded it; give the tokenizer.json "
            "of its prepared data (in data.cache), whose digest is checked"
        )
    if digest_json(found) != expected:
        raise BundleError(f"{layout.TOKENIZER} of {bundle.id} does not match its digest in {layout.DATASET}")
    return _known(found)


def tokenizer_files(record: Json, longest: int) -> dict[str, Json]:
    """The files by name, for a model that takes `longest` tokens."""
    kind = _bytes_tokenizer if record["kind"] == "bytes" else _characters_tokenizer
    return {
        "tokenizer.json": _library_file(record["end_of_document"], kind(record)),
        "tokenizer_config.json": {
            "clean_up_tokenization_spaces": False,
            "eos_token": END_OF_DOCUMENT,
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": longest,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    }


def _known(record: Json) -> Json:
    if record.get("format") != 1 or record.get("kind") not in {"bytes", "chars"}:
        kind = f"of kind {record.get('kind')!r}, format {record.get('format')!r}"
        raise BundleError(f"a tokenizer {kind} cannot be exported; bytes and chars, format 1, can")
    return record


def _library_file(end: int, parts: Json) -> Json:
    added = {"id": end, "content": END_OF_DOCUMENT, "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added | flags],
        "normalizer": None,
        "post_processor": None,
        **parts,
    }


def _bytes_tokenizer(record: Json) -> Json:
    """Byte-level BPE without merges: every byte stays the token it is."""
    vocabulary = {letter: byte for byte, letter in enumerate(_byte_letters()) if byte != record["end_of_document"]}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "pre_tokenizer": level,
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": vocabulary | {END_OF_DOCUMENT: record["end_of_document"]},
            "merges": [],
            "unk_token": None,
        },
    }


def _characters_tokenizer(record: Json) -> Json:
    """Every code point is a word of its own."""
    vocabulary = {character: place for place, character in enumerate(record["characters"])}
    return {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": vocabulary | {END_OF_DOCUMENT: record["end_of_document"]},
            "unk_token": _NOT_THERE,
        },
    }


def _byte_letters() -> list[str]:
    """The letter that byte-level tokenizers show for each byte (Radford et al. 2019): itself where it can be seen."""
    seen = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte) if byte in seen else chr(next(hidden)) for byte in range(256)]
