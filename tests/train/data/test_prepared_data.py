import numpy as np
import pytest

from recorder.errors import DataError
from train.data import DataOrder, Span, open_prepared, prepare, story


@pytest.fixture
def lines(write_jsonl):
    """200 documents of different lengths, enough to be split by document."""
    texts = [f"Line {number} says {'ha' * (number % 7 + 1)}." for number in range(200)]
    write_jsonl("lines.jsonl", texts)
    return texts


def stream(prepared, split):
    """All tokens of a split, as training sees them: the first input, then every target."""
    count = prepared.sequences(split, 1)
    inputs, targets = prepared.batch(split, np.arange(count), 1)
    return [int(inputs[0, 0]), *targets[:, 0].tolist()]


@pytest.mark.parametrize("tokenizer", ["bytes", "chars"])
def test_each_document_is_in_one_split_and_whole(lines, text_config, tokenizer):
    prepared = prepare(text_config("lines.jsonl", tokenizer=tokenizer))
    assert prepared.record["split"]["rule"] == "documents"
    texts = [prepared.tokenizer.decode(stream(prepared, split)).split("\n\n") for split in ("train", "validation")]
    assert all(part.pop() == "" for part in texts)
    assert sorted(texts[0] + texts[1]) == sorted(lines)
    assert [len(part) for part in texts] == [s["documents"] for s in prepared.record["splits"].values()]


def test_few_documents_give_their_tails_to_validation(folder, text_config):
    (folder / "a.txt").write_text("äbcdefgh" * 10)
    (folder / "b.txt").write_text("0123456789" * 4)
    prepared = prepare(text_config("a.txt", "b.txt"))
    texts = [prepared.tokenizer.decode(stream(prepared, split)) for split in ("train", "validation")]
    assert texts[0] == ("äbcdefgh" * 10)[:60] + "\n\n" + ("0123456789" * 3) + "\n\n"
    assert texts[1] == ("äbcdefgh" * 10)[60:] + "\n\n" + "0123456789" + "\n\n"


@pytest.mark.parametrize("length", [1, 7, 8, 100])
def test_each_token_is_a_target_once_but_for_the_first_and_the_dropped_tail(lines, text_config, length):
    prepared = prepare(text_config("lines.jsonl"))
    for split in ("train", "validation"):
        tokens = stream(prepared, split)
        counts = prepared.summary(length)[split]
        assert counts["tokens"] == len(tokens)
        assert counts["sequences"] == prepared.sequences(split, length)
        inputs, targets = prepared.batch(split, np.arange(counts["sequences"]), length)
        assert inputs.shape == targets.shape == (counts["sequences"], length)
        assert inputs.dtype == targets.dtype == np.int64
        read = counts["sequences"] * length
        assert inputs.ravel().tolist() == tokens[:read]
        assert targets.ravel().tolist() == tokens[1 : read + 1]
        assert counts["dropped_tail_tokens"] == len(tokens) - 1 - read < length


def test_batches_are_in_the_order_asked_for_and_own_their_memory(lines, text_config):
    prepared = prepare(text_config("lines.jsonl"))
    inputs, targets = prepared.batch("train", np.array([5, 0, 5]), 8)
    assert inputs[0].tolist() == inputs[2].tolist() == stream(prepared, "train")[40:48]
    inputs[:] = -1
    assert targets.min() >= 0
    assert prepared.batch("train", [0], 8)[0].min() >= 0


def test_a_sequence_outside_the_split_is_refused(lines, text_config):
    prepared = prepare(text_config("lines.jsonl"))
    for index in (-1, prepared.sequences("train", 8)):
        with pytest.raises(IndexError):
            prepared.batch("train", [index], 8)


def test_a_summary_of_too_long_sequences_has_none(lines, text_config):
    prepared = prepare(text_config("lines.jsonl"))
    counts = prepared.summary(10_000)["validation"]
    assert (counts["sequences"], counts["dropped_tail_tokens"]) == (0, counts["tokens"] - 1)
    with pytest.raises(DataError, match=r"the validation part of lines\.jsonl has \d+ tokens"):
        prepared.sequences("validation", 10_000)


def rebuilt(prepared, spans, rows, texts):
    """The tokens of each row, put together from the documents that its spans name."""
    tokenizer = prepared.tokenizer
    ids = {s.document: [*tokenizer.encode(texts[s.document]).tolist(), tokenizer.end_of_document] for s in spans}
    return [[t for s in spans if s.row == row for t in ids[s.document][s.offset :][: s.tokens]] for row in range(rows)]


def test_spans_name_exactly_what_a_micro_batch_reads(lines, text_config):
    prepared = prepare(text_config("lines.jsonl"))
    order = DataOrder(1, prepared.sequences("train", 40), 2, 5)
    for step in range(12):
        spans = prepared.locate(step, 1, order, 40)
        inputs, targets = prepared.batch("train", order.sequences_of(step, 1), 40)
        assert rebuilt(prepared, spans, 5, lines) == np.column_stack([inputs, targets[:, -1]]).tolist()
        assert {(span.file, span.line) for span in spans} == {("lines.jsonl", span.document + 1) for span in spans}


def test_spans_of_stories_name_the_story(stories_config):
    prepared = prepare(stories_config())
    order = DataOrder(1, prepared.sequences("train", 700), 1, 3)
    spans = prepared.locate(0, 0, order, 700)
    inputs, targets = prepared.batch("train", order.sequences_of(0, 0), 700)
    texts = {span.document: story(1, span.document) for span in spans}
    assert rebuilt(prepared, spans, 3, texts) == np.column_stack([inputs, targets[:, -1]]).tolist()
    assert {(span.file, span.line) for span in spans} == {(None, None)}


def test_spans_name_the_file_and_the_line(folder, write_jsonl, text_config):
    (folder / "a.txt").write_text("a" * 20)
    write_jsonl("b.jsonl", ["b" * 8, "c" * 8])
    (folder / "d.txt").write_text("d" * 8)
    prepared = prepare(text_config("a.txt", "b.jsonl", "d.txt", sequence_length=4))
    assert prepared.locate(0, 0, DataOrder(1, 1, 1, 1), 36) == [
        Span(0, 0, document=0, offset=0, tokens=16, file="a.txt", line=None),
        Span(0, 0, document=1, offset=0, tokens=7, file="b.jsonl", line=1),
        Span(0, 0, document=2, offset=0, tokens=7, file="b.jsonl", line=2),
        Span(0, 0, document=3, offset=0, tokens=7, file="d.txt", line=None),
    ]


@pytest.mark.parametrize("tokenizer", ["bytes", "chars"])
def test_the_prompt_is_the_beginning_of_the_first_validation_document(folder, text_config, tokenizer):
    (folder / "a.txt").write_text("x" * 120 + "é" * 40)
    assert prepare(text_config("a.txt", tokenizer=tokenizer)).prompt() == "é" * 32
    (folder / "b.txt").write_text("x" * 30 + "0123456789")
    (folder / "c.txt").write_text("y" * 40)
    assert prepare(text_config("b.txt", "c.txt", tokenizer=tokenizer)).prompt() == "0123456789"


@pytest.mark.parametrize("tokenizer", ["bytes", "chars"])
def test_stories_begin_as_stories_do(stories_config, tokenizer):
    prepared = prepare(stories_config(tokenizer=tokenizer, megabytes=0.02))
    assert prepared.prompt() == "Once upon a time"
    assert prepared.tokenizer.encode(prepared.prompt()).size == 16


def test_a_worker_opens_what_the_driver_prepared(lines, text_config):
    prepared = prepare(text_config("lines.jsonl", tokenizer="chars"))
    opened = open_prepared(prepared.folder)
    assert opened.record == prepared.record
    assert opened.vocabulary_size == prepared.vocabulary_size == opened.tokenizer.vocabulary_size
    assert stream(opened, "train") == stream(prepared, "train")
