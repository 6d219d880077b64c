"""A rule: how one kind of secret or private name looks in a line of text.

Rules are many and text is long, so that a rule also says what to look for first: its `hints` are texts of which every
line with a match has at least one. All rules' hints are looked for in one pass, see `prefilter`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

# What is put in the place of a secret begins so, and is itself never one.
HIDDEN = "<hidden:"

# Where a token may begin: not within a word, but after an escape of JSON (a line break is `\n` there), a colour code of
# a terminal, or a byte of a URL that is written as `%20`.
_BEGIN = (
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbfv])|(?<=\x1b\[\dm)|(?<=\x1b\[\d\dm)|(?<=\\u00[0-9a-f]{2})|(?<=%[0-9A-Fa-f]{2}))"
)
_END = r"(?![A-Za-z0-9])"


@dataclass(frozen=True)
class Span:
    """A finding within a line: `text[start:end]` is what must not be seen.

    One that is `continued` goes on with what an earlier line began, and is no finding of its own.
    """

    start: int
    end: int
    rule: Rule
    continued: bool = False

    @property
    def kind(self) -> str:
        """What it is."""
        return self.rule.kind


@dataclass(frozen=True)
class Rule:
    """One look of one kind. Where `body` matches, the group `v` is what must not be seen, without it the whole match.

    `hints` are divided by spaces, and of any case after `(?i)`; `look` says where they are too common what to look for
    in their place, in the language of RE2. `is_secret` has the last word about what the body matched.
    `private` is for names that a release replaces by pseudonyms; the others are credentials, which open something.
    `weak` values may be words that people choose: of their digest less is shown, or it could be found by trying.
    `in_code` says whether it is also for texts of programs, where what looks like a value may be a name.
    `begins` and `ends` say whether the match must begin, and end, where a token does.
    """

    kind: str
    hints: str
    body: str
    private: bool = False
    weak: bool = False
    begins: bool = True
    ends: bool = False
    in_code: bool = True
    is_secret: Callable[[re.Match[str]], bool] | None = None
    look: str | None = None

    @property
    def is_folded(self) -> bool:
        """Whether the hints are lower case, and those of a text in any case."""
        return self.hints.startswith("(?i)")

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The hints, one by one."""
        return tuple(self.hints.removeprefix("(?i)").split(" "))

    @cached_property
    def _search(self) -> Callable[[str], Iterator[re.Match[str]]]:
        pattern = f"{_BEGIN if self.begins else ''}(?:{self.body}){_END if self.ends else ''}"
        return re.compile(pattern, re.ASCII).finditer

    def spans(self, text: str) -> Iterator[Span]:
        """Every place in `text` that this rule is about, left to right."""
        for match in self._search(text):
            named = "v" in match.re.groupindex and match["v"] is not None
            start, end = match.span("v") if named else match.span()
            if start == end or text.startswith(HIDDEN, start) or _is_in_mask(text, start):
                continue
            if self.is_secret is None or self.is_secret(match):
                yield Span(start, end, self)


def _is_in_mask(text: str, place: int) -> bool:
    """Whether `place` is within a mask, whose kind is a word that rules look for."""
    return text.rfind(HIDDEN, 0, place) > text.rfind(">", 0, place)


def without_overlaps(spans: list[Span]) -> list[Span]:
    """Spans from left to right; of those that overlap the first listed stays, and the others are dropped."""
    kept: list[Span] = []
    for span in spans:
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)
