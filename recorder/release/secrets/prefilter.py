"""The first look: one pass over many lines that leaves the few in which a rule may find something."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from recorder.release.secrets.rule import Rule

# pyarrow compiles a pattern at each call: fewer lines are looked at one hint after the other.
_FEW = 64


class Prefilter:
    """Tells which lines any of `rules` might match, and which of the rules."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        words = {(word, rule.is_folded) for rule in self._rules for word in rule.words}
        self._exact = sorted(word for word, is_folded in words if not is_folded)
        self._folded = sorted(word for word, is_folded in words if is_folded)
        looks = dict.fromkeys(_look(rule) for rule in self._rules)
        self._pattern = "|".join(looks)

    def suspects(self, lines: Sequence[bytes]) -> list[int]:
        """Positions of the lines that must be looked at, ascending.

        Many lines are looked at by RE2 (in pyarrow), at once for all rules, in time linear in the text.
        """
        if len(lines) < _FEW:
            return self._suspects_of_few(lines)
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.match_substring_regex(pa.array(lines, pa.binary()), self._pattern)
        positions: list[int] = pc.indices_nonzero(found).to_pylist()
        return positions

    def rules_for(self, text: str) -> Iterable[Rule]:
        """Those rules that might match in `text`, in their order."""
        folded = text.lower()
        for rule in self._rules:
            where = folded if rule.is_folded else text
            if any(word in where for word in rule.words):
                yield rule

    def _suspects_of_few(self, lines: Sequence[bytes]) -> list[int]:
        if len(lines) > 1 and not self._has_hint(b"\n".join(lines)):
            return []
        return [number for number, line in enumerate(lines) if self._has_hint(line)]

    def _has_hint(self, data: bytes) -> bool:
        text = data.decode("latin-1")
        return any(word in text for word in self._exact) or self._has_folded(text.lower())

    def _has_folded(self, text: str) -> bool:
        return any(word in text for word in self._folded)


def _look(rule: Rule) -> str:
    if rule.look is not None:
        return f"(?:{rule.look})"
    words = "|".join(map(re.escape, rule.words))
    return f"(?i:{words})" if rule.is_folded else words
