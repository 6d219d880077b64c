"""Masks: what stands in the place of a secret, and hiding credentials before they are written at all.

A mask is `<hidden:KIND:DIGEST>`. The digest is the beginning of the BLAKE3 of kind and secret, so that its owner can
tell which one it was, and two places with the same one can be seen to be equal. Of passwords, which people choose and
others could try, only 16 bits are shown.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from recorder.canonical import digest
from recorder.release.secrets.credential_rules import CREDENTIALS, PASSWORD_KEY, STATED_PASSWORD
from recorder.release.secrets.judgement import is_placeholder
from recorder.release.secrets.key_block import KeyBlock
from recorder.release.secrets.prefilter import Prefilter
from recorder.release.secrets.rule import HIDDEN, Rule, Span, without_overlaps

_SHOWN, _SHOWN_OF_WEAK = 8, 4
_PASSWORD_KEY = re.compile(rf"\S*{PASSWORD_KEY}")


def fingerprint(rule: Rule, secret: str) -> str:
    """Names one secret without showing it: 16 hexadecimal digits of the BLAKE3 of kind and secret."""
    return digest(f"{rule.kind}\0{secret}".encode(errors="surrogatepass"))[:16]


def mask(rule: Rule, secret: str) -> str:
    """What stands in the place of `secret`."""
    shown = _SHOWN_OF_WEAK if rule.weak else _SHOWN
    return f"{HIDDEN}{rule.kind}:{fingerprint(rule, secret)[:shown]}>"


def masked(text: str, spans: list[Span]) -> str:
    """`text` with each of `spans`, which do not overlap, masked."""
    parts, reached = [], 0
    for span in spans:
        parts += [text[reached : span.start], mask(span.rule, text[span.start : span.end])]
        reached = span.end
    return "".join([*parts, text[reached:]])


def mask_text(text: str) -> str:
    """`text`, of one line or many, without credentials; the same text when it has none."""
    return "\n".join(LineMasker().mask(text.split("\n")))


def mask_values(value: Any, name: str = "") -> Any:
    """A copy of plain `value` in which every credential in a text is masked; `name` is the key that it stands under.

    Under the key of a password, and after it in a text `KEY=VALUE`, every text is one, but for placeholders.
    """
    if isinstance(value, dict):
        return {key: mask_values(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_values(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if _PASSWORD_KEY.fullmatch(name):
        return value if is_placeholder(value) else mask(STATED_PASSWORD, value)
    key, equals, rest = value.partition("=")
    if equals and "\n" not in rest and _PASSWORD_KEY.fullmatch(key):
        return f"{key}={mask_values(rest, key)}"
    if (alone := mask_text(value)) != value:
        return alone
    # Some secrets are known by their key.
    lead = f"{name}="
    whole = mask_text(lead + value)
    return whole.removeprefix(lead) if whole.startswith(lead) else value


class LineMasker:
    """Masks the lines of one stream, in their order; a private key may begin in one call and end in another."""

    def __init__(self) -> None:
        self._block = KeyBlock()

    def mask(self, lines: list[str]) -> list[str]:
        """The lines without credentials, as many as there were."""
        suspects = set(_prefilter().suspects([line.encode(errors="surrogatepass") for line in lines]))
        if not suspects and not self._block.is_open:
            return lines
        return [self._masked(line, number in suspects) for number, line in enumerate(lines)]

    def _masked(self, line: str, is_suspect: bool) -> str:
        span = self._block.follow(line) if is_suspect or self._block.is_open else None
        spans = [span] if span else []
        if is_suspect:
            spans += [span for rule in _prefilter().rules_for(line) for span in rule.spans(line)]
        return masked(line, without_overlaps(spans)) if spans else line


@cache
def _prefilter() -> Prefilter:
    return Prefilter(CREDENTIALS)
