"""HTML from values: what is not markup already is escaped, for names and texts in a bundle are a stranger's."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Any

from recorder.canonical import encode_non_finite
from recorder.cli.console import printable

_VOID = frozenset({"meta", "input", "br"})
_ASSETS = "assets"


class Markup(str):
    """Text that is HTML; any other text is escaped when it is put into a page."""

    __slots__ = ()


Child = Markup | str | int | None


def text(value: object) -> Markup:
    """`value` as HTML text; what is invisible or would turn the direction of writing is shown as its code."""
    return Markup("\n".join(escape(printable(line)) for line in str(value).split("\n")))


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """An element. In an attribute's name `_` stands for `-`, at its end for nothing; None and False leave it out."""
    written = [
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    ]
    opening = f"<{name}{''.join(written)}>"
    return Markup(opening if name in _VOID else f"{opening}{together(children)}</{name}>")


def together(children: Iterable[Child]) -> Markup:
    """Several pieces one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in children if part is not None))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Child]], numbers: Sequence[str] = ()) -> Markup:
    """A table whose first column heads its rows; the columns named in `numbers` hold numbers. It scrolls by itself."""
    styles = ["number" if name in numbers else None for name in head]
    body = [
        tag(
            "tr",
            *(
                tag("td", cell, class_=style) if place else tag("th", cell, scope="row", class_=style)
                for place, (cell, style) in enumerate(zip(row, styles, strict=True))
            ),
        )
        for row in rows
    ]
    heads = [tag("th", name, scope="col", class_=style) for name, style in zip(head, styles, strict=True)]
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", *heads)), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def section(id_: str, title: str, *children: Child) -> Markup:
    """A section that the page's navigation leads to."""
    return tag("section", tag("h2", title), *children, id=id_, data_title=title)


def details(title: str, *children: Child) -> Markup:
    """Something that is opened when it is wanted."""
    return tag("details", tag("summary", title), *children)


def code(value: object) -> Markup:
    """A short technical text."""
    return tag("code", text(value))


def asset(name: str) -> str:
    """The text of a file that comes with the package."""
    return resources.files(__package__).joinpath(_ASSETS, name).read_text("utf-8")


def document(title: str, body: Markup, scripts: Sequence[str], data: Any, root: str | None = None) -> str:
    """A whole page in one file. It loads nothing, and runs no script but those of the package that are named.

    `data` is there for them as JSON. The page's own policy names the digests of its style and its scripts, so that a
    browser would not run a script that had come in with a name or a log. `root` is that of the bundle it shows.
    """
    style, program = asset("page.css"), "\n".join(map(asset, scripts))
    policy = f"default-src 'none'; style-src {_allowed(style)}; script-src {_allowed(program)}; base-uri 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="run-recorder-root", content=root) if root else None,
        tag("title", title),
        tag("style", Markup(style)),
    )
    embedded = tag("script", Markup(script_json(data)), id="page-data", type="application/json")
    page = tag("html", head, tag("body", body, embedded, tag("script", Markup(program))), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def script_json(data: Any) -> str:
    """JSON that may stand in a script element: in ASCII, and without a character that begins or ends markup."""
    written = json.dumps(encode_non_finite(data), separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _allowed(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
