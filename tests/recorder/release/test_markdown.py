from __future__ import annotations

from html import unescape
from html.parser import HTMLParser

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from recorder.release.markdown import link, table, text

MARKDOWN = MarkdownIt("gfm-like", {"linkify": False})
NASTY = st.text(
    st.sampled_from("ab1.)-+=#>|\\`*_{}[]()<>&~$@!:/;\n\t ") | st.characters(exclude_categories=["Cs", "Cc"])
)


class Words(HTMLParser):
    """The tags of a page and its text, without what stands in tags."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(NASTY)
@example("<b>")
@example("1. one")
@example("- one")
@example("a | b")
@example("&lt;script&gt;")
@example("![x](y)")
@example("a\\")
@example("http://example.org")
@example("===")
def test_text_is_shown_as_it_is(value: str) -> None:
    found = Words(MARKDOWN.render(text(value)))
    assert found.text.strip() == " ".join(value.split())
    assert set(found.tags) <= {"p"}


@given(st.lists(st.tuples(NASTY, NASTY), min_size=1, max_size=3))
def test_a_cell_stays_one_cell(rows: list[tuple[str, str]]) -> None:
    lines = table(("one", "two"), [(text(first), text(second)) for first, second in rows])
    found = Words(MARKDOWN.render("\n".join(lines)))
    assert found.tags.count("td") == 2 * len(rows)
    assert set(found.tags) == {"table", "thead", "tr", "th", "tbody", "td"}


@given(NASTY)
def test_a_link_leads_where_it_should(value: str) -> None:
    page = MARKDOWN.render(f"see {link(value, 'runs/a b/(x)&y.json')}")
    assert 'href="runs/a%20b/%28x%29%26y.json"' in unescape(page)
    assert page.count("<a ") == 1


def test_no_rows_make_no_table() -> None:
    assert table(("one",), []) == []
