import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import DataError
from train.data.tokenizer import Alphabet, BytesTokenizer, CharsTokenizer, tokenizer_from_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(text=TEXT)
def test_bytes_are_the_utf8_of_the_text(text):
    tokenizer = BytesTokenizer()
    ids = tokenizer.encode(text)
    assert bytes(ids.tolist()) == text.encode()
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_document not in ids
    assert tokenizer.vocabulary_size == 256


@given(text=TEXT.filter(bool))
def test_chars_are_the_places_in_the_sorted_alphabet(text):
    alphabet = Alphabet()
    for character in text:
        alphabet.add(character)
    tokenizer = CharsTokenizer(alphabet.characters())
    characters = sorted(set(text))
    ids = tokenizer.encode(text)
    assert ids.tolist() == [characters.index(character) for character in text]
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_document == len(characters) == tokenizer.vocabulary_size - 1


@pytest.mark.parametrize("text", ["abd", "ab\u00e9", "a\U0001f600", "\ud800", "a\n"])
def test_a_character_outside_the_corpus_is_named(text):
    with pytest.raises(DataError, match=r"U\+[0-9A-F]{4,5}.* is not one of the 3 characters of the corpus"):
        CharsTokenizer("abc").encode(text)


def test_bytes_name_half_a_surrogate_pair():
    with pytest.raises(DataError, match=r"U\+D800"):
        BytesTokenizer().encode("a\ud800")


@pytest.mark.parametrize("tokenizer", [BytesTokenizer(), CharsTokenizer("abc\u00e9")])
def test_the_end_of_a_document_reads_as_an_empty_line(tokenizer):
    ids = [*tokenizer.encode("ab"), tokenizer.end_of_document, *tokenizer.encode("c")]
    assert tokenizer.decode(np.array(ids)) == "ab\n\nc"


def test_sampled_bytes_that_are_no_utf8_still_read():
    assert BytesTokenizer().decode([97, 0xC3, 98]) == "a\ufffdb"


@pytest.mark.parametrize("tokenizer", [BytesTokenizer(), CharsTokenizer("ab\u00e9\u2028")])
def test_a_tokenizer_survives_json(tokenizer):
    copy = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert type(copy) is type(tokenizer)
    assert copy.to_json() == tokenizer.to_json()
    assert copy.digest == tokenizer.digest != CharsTokenizer("ab").digest


@pytest.mark.parametrize("value", [{"format": 1, "kind": "words"}, {"format": 2, "kind": "bytes"}, {}])
def test_an_unknown_tokenizer_is_refused(value):
    with pytest.raises(DataError, match="this version knows bytes and chars, format 1"):
        tokenizer_from_json(value)
