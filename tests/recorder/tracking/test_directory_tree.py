from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.tracking.tree import DirectoryTree, Entry, object_name, parse_directory

PATHS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)
ENTRIES = st.builds(Entry, st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 2**40))


@given(st.lists(st.tuples(PATHS, st.none() | ENTRIES)))
def test_a_tree_is_what_its_changes_make_of_it(changes: list[tuple[str, Entry | None]]) -> None:
    tree, expected = DirectoryTree(), dict[str, Entry]()
    for path, entry in changes:
        if entry is None:
            assert tree.remove(path) == expected.pop(path, None)
        else:
            tree.put(path, entry)
            expected[path] = entry
    listed = [{"md5": entry.md5, "relpath": path} for path, entry in sorted(expected.items())]
    assert tree.serialised() == json.dumps(listed, sort_keys=True).encode()
    assert {path: tree.get(path) for path in tree} == expected
    assert (len(tree), tree.size) == (len(expected), sum(entry.size for entry in expected.values()))
    assert tree.objects() == {entry.md5 for entry in expected.values()}
    assert parse_directory(tree.serialised()) == {path: entry.md5 for path, entry in expected.items()}


def test_the_object_is_named_by_its_content() -> None:
    assert object_name(b"[]") == hashlib.md5(b"[]").hexdigest() + ".dir"


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_what_is_no_directory_is_refused(data: bytes) -> None:
    if data.strip() == b"[]":
        return
    with pytest.raises(ValueError, match=r"."):
        parse_directory(data)
