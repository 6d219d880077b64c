from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import UsageError
from recorder.release import statement
from recorder.release.statement import STATEMENT, Statement, kept_statement, parse_statement, read_statement


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    text = inspect.getdoc(statement)
    assert text is not None
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    (tmp_path / "release.yaml").write_text(
        "\n".join(lines).replace("...", "something").replace("https://…", "https://a.b")
    )
    found = read_statement(tmp_path / "release.yaml")
    assert found.title == "Stories 1M"
    assert found.licences == {"model": "Apache-2.0", "code": "Apache-2.0", "documents": "CC-BY-4.0", "data": "CC0-1.0"}
    assert all(getattr(found, name) for name in Statement.__dataclass_fields__)


def test_what_was_stated_is_kept_whatever_stands_in_it(tmp_path: Path) -> None:
    stated = parse_statement(
        {
            "title": "Sto\u2028ries\x85 \U0001f41d: #1",
            "authors": [{"name": "A Lab"}, {"given-names": "Ada", "family-names": "L\u00f6"}],
            "licences": {"model": "MIT"},
            "languages": ["en", "de"],
        }
    )
    (tmp_path / STATEMENT).write_bytes(stated.data())
    assert kept_statement(tmp_path / STATEMENT) == stated
    assert kept_statement(tmp_path / STATEMENT).data() == stated.data()
    (tmp_path / STATEMENT).write_bytes(Statement().data())
    assert kept_statement(tmp_path / STATEMENT) == Statement()
    (tmp_path / STATEMENT).write_text("{")
    with pytest.raises(UsageError, match=r"statement\.json is no JSON"):
        kept_statement(tmp_path / STATEMENT)


def test_nothing_need_be_stated(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert read_statement(tmp_path / "empty.yaml") == Statement() == parse_statement({})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"licence": "MIT"}, "a statement has no key 'licence'; there are title, summary, authors, licences"),
        (["title"], "a statement must have keys and values; keys are title"),
        ({"title": 3}, "title must be text, not 3"),
        ({"title": " "}, "title must be text"),
        ({"url": "javascript:alert(1)"}, "url must be a web address, https://…, not 'javascript:alert(1)'"),
        ({"licences": {"weights": "MIT"}}, "licences has no key 'weights'; there are model, code, documents, data"),
        ({"licences": {"model": "my own"}}, "licences: model must be an SPDX id such as Apache-2.0, not 'my own'"),
        ({"licences": "MIT"}, "licences must have keys and values"),
        ({"authors": "Ada"}, "authors must be a list"),
        ({"authors": ["Ada"]}, "an author must have keys and values"),
        ({"authors": [{"email": "a@b.c"}]}, "authors: each needs given-names and family-names, or name"),
        ({"authors": [{"name": "A", "family-names": "B"}]}, "authors: name is for an organisation"),
        ({"authors": [{"family-names": "B", "orcid": "1"}]}, "authors: orcid must look like https://orcid.org/0000-"),
        ({"languages": [1]}, "languages must be text, not 1"),
    ],
)
def test_a_mistake_is_one_line(values: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_statement(values)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for text, message in (("a: [", "is no YAML"), ("title: 3", "title must be text"), ("\x00", "is no YAML")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UsageError, match=rf"bad\.yaml.*{message}"):
            read_statement(tmp_path / "bad.yaml")
    with pytest.raises(UsageError, match="No such file"):
        read_statement(tmp_path / "none.yaml")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["title", "authors", "licences", "name", "model", "x"]), inner, max_size=3
            )
        ),
    )
)
def test_whatever_is_in_the_file_it_is_a_statement_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = tmp_path_factory.mktemp("statement") / "release.yaml"
    path.write_text(yaml.safe_dump(value))
    said = ""
    try:
        assert isinstance(read_statement(path), Statement)
    except UsageError as error:
        said = str(error)
    assert "\n" not in said
