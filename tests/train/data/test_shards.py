import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle.files import blake3_file
from train.data.shards import SplitReader, SplitWriter, token_type
from train.data.tokenizer import CharsTokenizer

TOKENIZER = CharsTokenizer("".join(map(chr, range(1000, 1300))))
END = TOKENIZER.end_of_document
TOKENS = st.lists(st.integers(0, END - 1), min_size=1, max_size=12)


def written(folder, documents, shard_bytes):
    with SplitWriter(folder, "train", TOKENIZER, shard_bytes) as writer:
        for number, tokens in enumerate(documents):
            for start in range(0, len(tokens), 5):
                text = TOKENIZER.decode(tokens[start : start + 5])
                assert writer.add(2 * number, start + 7, text) == len(text)
        return writer.close()


@given(documents=st.lists(TOKENS, max_size=8), shard_tokens=st.integers(1, 9), data=st.data())
def test_any_stretch_reads_across_shards(tmp_path_factory, documents, shard_tokens, data):
    folder = tmp_path_factory.mktemp("shards")
    record = written(folder, documents, 2 * shard_tokens)
    stream = [token for tokens in documents for token in [*tokens, END]]
    assert record["tokens"] == len(stream)
    assert [shard["bytes"] for shard in record["shards"][:-1]] == [2 * shard_tokens] * (len(record["shards"]) - 1)
    reader = SplitReader(folder, record, "uint16")
    start = data.draw(st.integers(0, len(stream)))
    stop = data.draw(st.integers(start, len(stream)))
    assert reader.read(start, stop).tolist() == stream[start:stop]


def test_the_table_says_where_each_document_begins(tmp_path):
    record = written(tmp_path, [[1, 2, 3, 4, 5, 6], [7], [8, 9]], 1000)
    reader = SplitReader(tmp_path, record, "uint16")
    assert reader.table.tolist() == [[0, 0, 7], [7, 2, 7], [9, 4, 7]]
    assert (record["documents"], record["characters"], record["tokens"]) == (3, 9, 12)


def test_files_are_little_endian_and_digested(tmp_path):
    record = written(tmp_path, [[1, 256]], 1000)
    assert (tmp_path / "train-00000.bin").read_bytes() == bytes([1, 0, 0, 1, END & 255, END >> 8])
    for entry in (*record["shards"], record["document_table"]):
        path = tmp_path / entry["file"]
        assert (path.stat().st_size, blake3_file(path)) == (entry["bytes"], entry["blake3"])


def test_an_empty_split_is_no_special_case(tmp_path):
    reader = SplitReader(tmp_path, written(tmp_path, [], 1000), "uint16")
    assert (reader.tokens, reader.read(0, 0).tolist(), reader.table.tolist()) == (0, [], [])


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 5), (3, 2)])
def test_nothing_is_read_outside_the_split(tmp_path, start, stop):
    reader = SplitReader(tmp_path, written(tmp_path, [[1, 2, 3]], 1000), "uint16")
    with pytest.raises(IndexError, match=f"tokens {start} to {stop} of 4"):
        reader.read(start, stop)


@pytest.mark.parametrize(
    ("size", "kind"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")]
)
def test_tokens_have_the_smallest_type(size, kind):
    assert token_type(size) == kind
