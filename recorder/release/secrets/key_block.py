"""Private keys over many lines, as they stand in files, logs and patches: a first line, a body, a last line."""

from __future__ import annotations

import re

from recorder.release.secrets.credential_rules import OTHER_KEY, PGP_KEY, SSH_KEY
from recorder.release.secrets.rule import Rule, Span

_BEGIN = re.compile(r"-----BEGIN (?P<what>(?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?)-----\s*$")
# A line of base64 at the end of a line: a log has the time before it, a patch its mark, YAML its indentation.
_BODY = re.compile(r"(?:^[+-]?|[\s\"'])(?P<v>[A-Za-z0-9+/=]+)[\"',]?\s*$")
_FIRST_BODY = re.compile(r"(?:^[+-]?|[\s\"'])[A-Za-z0-9+/]{16,}={0,2}[\"',]?\s*$")
_BETWEEN = re.compile(r"(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): .*$")
_LONGEST = 1000


class KeyBlock:
    """Follows lines in their order; its state goes on from one call to the next."""

    def __init__(self) -> None:
        self._rule: Rule | None = None
        self._lines = 0
        self._body_began = 0

    @property
    def is_open(self) -> bool:
        """Whether the next line may belong to a key."""
        return self._rule is not None

    def follow(self, text: str) -> Span | None:
        """What of the next line belongs to a key's body; the spans after the first are `continued`."""
        if match := _BEGIN.search(text):
            self._rule, self._lines, self._body_began = _rule(match["what"]), 0, 0
            return None
        if self._rule is None:
            return None
        self._lines += 1
        if not self._goes_on(text):
            self._rule = None
            return None
        body = _BODY.search(text) if self._body_began else None
        if body is None:
            return None
        return Span(body.start("v"), body.end("v"), self._rule, continued=self._lines > self._body_began)

    def _goes_on(self, text: str) -> bool:
        if "-----END" in text or self._lines > _LONGEST:
            return False
        if self._body_began:
            return _BODY.search(text) is not None
        if _FIRST_BODY.search(text):
            self._body_began = self._lines
            return True
        # PGP has an empty line before the body, and some headers; in a log an empty line ends with a space.
        return _BETWEEN.search(text) is not None or not text.strip(" +-\t\r") or text.endswith(" ")


def _rule(what: str) -> Rule:
    if what.startswith("PGP"):
        return PGP_KEY
    return SSH_KEY if what.split(" ")[0] in {"OPENSSH", "RSA", "DSA", "EC"} else OTHER_KEY
