"""Pieces of Markdown that stay what they are, whatever a run's name, a command line or a cause holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def text(value: str) -> str:
    """`value` on one line, shown as it is: no mark-up, HTML, mention or mathematics in it takes effect."""
    line = " ".join(value.split())
    escaped = _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;")).replace("@", "&#64;").replace("://", ":&#47;&#47;")
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", re.sub(r"^([-+=])", r"\\\1", escaped))


def link(label: str, path: str) -> str:
    """A link to the file `path` of the release, or to a web address."""
    address = path if path.startswith(("http://", "https://")) else quote(path)
    return f"[{text(label)}]({address.replace('(', '%28').replace(')', '%29')})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table whose cells are Markdown; none where there are no rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines, ""] if lines else []
