import errno
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import train.data.inputs
import train.data.text
from recorder.errors import DataError
from train.data.inputs import listed
from train.data.text import TextSource

BOM = b"\xef\xbb\xbf"


def documents(*patterns: str, field: str = "text") -> list[str]:
    result, text = [], ""
    for piece in TextSource(patterns, field).pieces():
        text += piece.text
        if piece.ends_document:
            result.append(text)
            text = ""
    assert not text
    return result


def complaint(*patterns: str) -> str:
    with pytest.raises(DataError) as caught:
        documents(*patterns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_txt_file_is_a_document_and_so_is_each_line_of_a_jsonl_file(folder, write_jsonl):
    (folder / "a.txt").write_bytes("Ein Käse\r\nund mehr".encode())
    write_jsonl("b.jsonl", ["one", "two\nlines \u2028 here"])
    assert documents("b.jsonl", "a.txt") == ["one", "two\nlines \u2028 here", "Ein Käse\r\nund mehr"]


def test_a_jsonl_file_needs_no_last_line_end_and_may_have_windows_ones(folder):
    (folder / "a.jsonl").write_bytes(b'{"body": "x"}\r\n{"body": "y", "text": 1}')
    assert documents("a.jsonl", field="body") == ["x", "y"]


def test_a_glob_is_sorted_and_searches_below(folder, write_jsonl):
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    assert documents("*.txt") == documents("*") == ["a.txt", "b.txt"]
    assert documents("**/*.txt") == ["a.txt", "b.txt", "sub/c.txt"]


def test_a_name_with_brackets_is_a_name_first(folder):
    (folder / "a[1].txt").write_text("brackets")
    assert documents("a[1].txt") == ["brackets"]


def test_names_are_relative_where_the_file_is_below_the_working_folder(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("elsewhere") / "b.txt"
    outside.write_text("b")
    (folder / "a.txt").write_text("a")
    source = TextSource([str(folder / "a.txt"), str(outside)], "text")
    assert [file.name for file in source.inputs] == ["a.txt", outside.as_posix()]


def test_a_byte_order_mark_is_no_text(folder):
    (folder / "a.txt").write_bytes(BOM + b"text")
    (folder / "b.jsonl").write_bytes(BOM + b'{"text": "line"}\n')
    assert documents("a.txt", "b.jsonl") == ["text", "line"]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), chunk=st.integers(1, 7))
def test_a_txt_file_reads_the_same_in_chunks_of_any_size(tmp_path_factory, text, chunk):
    path = tmp_path_factory.mktemp("chunks") / "a.txt"
    path.write_bytes(b"x" + text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.data.text, "_CHUNK", chunk)
        assert documents(str(path)) == ["x" + text]


@pytest.mark.parametrize("chunk", [3, 4, 5, 1000])
@pytest.mark.parametrize("start", [b"", BOM])
def test_bad_utf8_is_named_by_its_byte(folder, monkeypatch, chunk, start):
    monkeypatch.setattr(train.data.text, "_CHUNK", chunk)
    good = start + "aé€".encode()
    (folder / "a.txt").write_bytes(good + b"\xff rest")
    assert complaint("a.txt") == (
        f"data.files: a.txt: the byte at offset {len(good)} (0xff) is no UTF-8; save the file as UTF-8"
    )
    (folder / "a.txt").write_bytes(good + "€".encode()[:2])
    assert f"a.txt: the byte at offset {len(good)} (0xe2)" in complaint("a.txt")


def test_bad_utf8_in_a_jsonl_file_is_named_by_line_and_byte(folder):
    (folder / "a.jsonl").write_bytes(BOM + b'{"text": "x"}\n{"text": "\xe9"}\n')
    assert "a.jsonl, line 2: the byte at offset 27 (0xe9) is no UTF-8" in complaint("a.jsonl")
    (folder / "a.jsonl").write_bytes(BOM + b'{"text": "\xe9"}\n')
    assert "a.jsonl, line 1: the byte at offset 13 (0xe9) is no UTF-8" in complaint("a.jsonl")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "no JSON object (Expecting property name enclosed in double quotes at column 2); each line must be one"),
        ("", "no JSON object (Expecting value at column 1); each line must be one"),
        ("[" * 100_000, "no JSON object ("),
        ("9" * 5000, "no JSON object ("),
        ('["text"]', 'JSON, but no object; each line must be one, such as {"text": "..."}'),
        ('{"body": "x", "id": 1}', "no field 'text' (it has 'body' and 'id'); set data.text_field"),
        ("{}", "no field 'text' (it has none); set data.text_field"),
        ('{"text": 5}', "field 'text' is a number; it must be a string"),
        ('{"text": null}', "field 'text' is null; it must be a string"),
        ('{"text": {"a": 1}}', "field 'text' is an object; it must be a string"),
        ('{"text": ["a"]}', "field 'text' is an array; it must be a string"),
        ('{"text": true}', "field 'text' is a boolean; it must be a string"),
        ('{"text": ""}', "field 'text' is empty; it must be a string with text in it"),
        ('{"text": "a\\ud800"}', "field 'text' has half a surrogate pair, \\ud800; take it out"),
    ],
)
def test_a_line_that_holds_no_document_is_named(folder, line, expected):
    (folder / "a.jsonl").write_text('{"text": "good"}\n' + line + "\n")
    assert complaint("a.jsonl").startswith(f"data.files: a.jsonl, line 2: {expected}")


def test_files_that_cannot_be_used_are_named(folder):
    for name in ("empty.txt", "empty.jsonl", "notes.md", "README"):
        (folder / name).write_bytes(b"" if "empty" in name else b"text")
    (folder / "mark.txt").write_bytes(BOM)
    (folder / "texts").mkdir()
    (folder / "a.txt").write_text("a")
    assert complaint("empty.txt") == "data.files: empty.txt is empty; leave it out or fill it"
    assert complaint("empty.jsonl") == "data.files: empty.jsonl is empty; leave it out or fill it"
    assert complaint("mark.txt") == "data.files: mark.txt holds no text; leave it out or fill it"
    assert "notes.md ends in '.md'; allowed are .txt and .jsonl" in complaint("notes.md")
    assert "README ends in 'nothing'; allowed are .txt and .jsonl" in complaint("READM?")
    assert "missing.txt does not exist in " in complaint("a.txt", "missing.txt")
    assert "*.jsonl.txt matches no file in " in complaint("*.jsonl.txt")
    assert "texts is a folder; name its files, such as texts/*.txt" in complaint("texts")
    assert "a.txt is named twice" in complaint("a.txt", "./texts/../[a].txt")


def test_a_file_that_the_system_refuses_is_named(folder, monkeypatch):
    (folder / "a.txt").write_text("a")
    source = TextSource(["a.txt"], "text")

    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(train.data.inputs, "blake3_file", refuse)
    assert complaint("a.txt") == "data.files: a.txt cannot be read: Permission denied"
    (folder / "a.txt").unlink()
    with pytest.raises(DataError, match=r"a\.txt cannot be read: No such file"):
        list(source.pieces())


def test_a_file_that_changes_while_it_is_read_is_refused(folder, write_jsonl):
    path = write_jsonl("a.jsonl", ["one", "two"])
    source = TextSource(["a.jsonl"], "text")
    pieces = source.pieces()
    next(pieces)
    path.write_text(json.dumps({"text": "other"}) + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl changed while it was read"):
        list(itertools.chain(pieces, source.pieces()))


def test_many_files_are_named_in_short():
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"]) == "a, b and 2 more"
