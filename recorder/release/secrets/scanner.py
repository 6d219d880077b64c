"""Finds secrets in lines of text: the rules, applied where the first look leaves something to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recorder.release.secrets.credential_rules import CREDENTIALS
from recorder.release.secrets.key_block import KeyBlock
from recorder.release.secrets.prefilter import Prefilter
from recorder.release.secrets.private_rules import Names, private_rules
from recorder.release.secrets.rule import Span, without_overlaps


@dataclass(frozen=True)
class Hit:
    """One line with secrets: its place among the lines that were given, its text, and the spans, left to right."""

    number: int
    text: str
    spans: list[Span]


class Scanner:
    """Applies all rules; `names` are the hosts, users and addresses to look for. It keeps nothing between calls."""

    def __init__(self, names: Names | None = None) -> None:
        self._prefilter = Prefilter((*CREDENTIALS, *private_rules(names or Names())))

    def hits(self, lines: Sequence[bytes], is_code: bool = False) -> Iterator[Hit]:
        """Every line that holds a secret, in order; `is_code` for lines of a program's text.

        Bytes that are no UTF-8 are kept as lone surrogates.
        """
        reached = 0
        for number in self._prefilter.suspects(lines):
            if number < reached:
                continue
            reached = number + 1
            text = lines[number].decode(errors="surrogateescape")
            if spans := self.spans(text, is_code):
                yield Hit(number, text, spans)
            block = KeyBlock()
            block.follow(text)
            while block.is_open and reached < len(lines):
                yield from self._key_line(block, lines[reached], reached, is_code)
                reached += 1

    def spans(self, text: str, is_code: bool = False) -> list[Span]:
        """What in one line must not be seen, credentials before names where they overlap."""
        rules = [rule for rule in self._prefilter.rules_for(text) if rule.in_code or not is_code]
        return without_overlaps([span for rule in rules for span in rule.spans(text)])

    def _key_line(self, block: KeyBlock, line: bytes, number: int, is_code: bool) -> Iterator[Hit]:
        text = line.decode(errors="surrogateescape")
        body = block.follow(text)
        if spans := without_overlaps([*([body] if body else []), *self.spans(text, is_code)]):
            yield Hit(number, text, spans)
