from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from recorder.canonical import readable_json
from recorder.release.tokenizer import END_OF_DOCUMENT, tokenizer_files
from train.data.tokenizer import BytesTokenizer, CharsTokenizer, Tokenizer

ALPHABET = "\x00\t\n !\"'#$,.?ABab\x7fÀÿ߿ࠀ\u200d\u2028\ufeff🙂"
CHARS, BYTES = CharsTokenizer("".join(sorted(ALPHABET))), BytesTokenizer()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreTrainedTokenizerBase]:
    return {tokenizer.kind: load(tokenizer, tmp_path_factory.mktemp(tokenizer.kind)) for tokenizer in (CHARS, BYTES)}


def load(tokenizer: Tokenizer, folder: Path) -> PreTrainedTokenizerBase:
    for name, value in tokenizer_files(tokenizer.to_json(), 64).items():
        (folder / name).write_bytes(readable_json(value))
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return found


@given(text=st.text(st.sampled_from(ALPHABET)))
def test_characters_have_the_ids_of_training(loaded: dict[str, PreTrainedTokenizerBase], text: str) -> None:
    theirs = loaded["chars"]
    assert theirs(text).input_ids == CHARS.encode(text).tolist()
    assert theirs.decode(CHARS.encode(text)) == text


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_have_the_ids_of_training(loaded: dict[str, PreTrainedTokenizerBase], text: str) -> None:
    theirs = loaded["bytes"]
    assert theirs(text).input_ids == BYTES.encode(text).tolist()
    assert theirs.decode(BYTES.encode(text)) == text


@given(data=st.binary().map(lambda data: data.replace(b"\xff", b"")))
def test_bytes_that_are_no_text_read_as_in_training(loaded: dict[str, PreTrainedTokenizerBase], data: bytes) -> None:
    ids = np.frombuffer(data, np.uint8)
    assert loaded["bytes"].decode(ids.tolist()) == BYTES.decode(ids)


@pytest.mark.parametrize("tokenizer", [CHARS, BYTES], ids=lambda tokenizer: tokenizer.kind)
def test_the_end_of_a_document_is_the_special_token(
    loaded: dict[str, PreTrainedTokenizerBase], tokenizer: Tokenizer
) -> None:
    theirs = loaded[tokenizer.kind]
    end = tokenizer.end_of_document
    assert (theirs.eos_token, theirs.eos_token_id, len(theirs)) == (END_OF_DOCUMENT, end, tokenizer.vocabulary_size)
    around = [*tokenizer.encode("a").tolist(), end, *tokenizer.encode("b").tolist()]
    assert theirs.decode(around) == f"a{END_OF_DOCUMENT}b"
    assert theirs.decode(around, skip_special_tokens=True) == "ab"
    assert theirs(f"a{END_OF_DOCUMENT}b").input_ids == around


def test_text_that_spells_the_end_can_be_read_as_text(loaded: dict[str, PreTrainedTokenizerBase]) -> None:
    ids = loaded["bytes"](END_OF_DOCUMENT, split_special_tokens=True).input_ids
    assert ids == BYTES.encode(END_OF_DOCUMENT).tolist()


def test_a_character_that_the_corpus_does_not_have_is_an_error(loaded: dict[str, PreTrainedTokenizerBase]) -> None:
    with pytest.raises(Exception, match="UNK"):
        loaded["chars"]("abc")


def test_the_longest_text_is_the_models(loaded: dict[str, PreTrainedTokenizerBase]) -> None:
    assert loaded["chars"].model_max_length == 64
    assert loaded["chars"]("ab").keys() == {"input_ids", "attention_mask"}


def test_the_files_are_those_that_were_looked_at() -> None:
    kept = json.loads((Path(__file__).parents[2] / "golden" / "tokenizer-chars.json").read_bytes())
    assert tokenizer_files(CharsTokenizer("\n ab").to_json(), 8) == kept
