"""Whether a value that stands where a secret would stand is one: an example, a variable's name or code is none."""

from __future__ import annotations

import math
import re
from collections import Counter

from recorder.release.secrets.rule import HIDDEN

# What people write where a secret will be put, and what programs print instead of one.
_PLACEHOLDER = re.compile(
    r"(?i)<.*>|\{.*\}?|\[.*\]|\$[\w({].*|%[(s].*|\*+.*|x{3,}|\.{2,}|-+|none|null|true|false|not[ _-]?set|unset|empty"
    r"|redacted|hidden|(?:your|example|dummy|fake)[_ -].*|changeme|pass(?:word|wd)?|pwd|pw|secret|token|required"
)
# A call, an index, an attribute or an opening bracket: what stands there in a program's text.
_CODE = re.compile(r"[A-Za-z_][\w.]*[(\[].*|(?:self|os|args|cfg|config|settings|env)\..*|[(\[].*")
_PATH = re.compile(r"~?\.{0,2}/[a-z]+/|[a-z]+://")
# What follows a name in a program's text or in prose belongs to neither.
_NAME = re.compile(r"[A-Za-z_.]+[)\]}`:]*")
# The end of a call, or of a piece of code that prose quotes; tracebacks and messages have them.
_CLOSED = re.compile(r"[A-Za-z_.]+[)`][)\]}`:]*")


def is_placeholder(value: str) -> bool:
    """Whether `value` stands for a secret that is elsewhere, or already for a masked one."""
    return not value or value.startswith(HIDDEN) or _PLACEHOLDER.fullmatch(value) is not None


def is_password(match: re.Match[str]) -> bool:
    """Whether the group `v` is a value, and no placeholder."""
    return not is_placeholder(match["v"])


def is_assigned_password(match: re.Match[str]) -> bool:
    """As `is_password`; a plain word is taken for a name, as in `password=password_of_user`, and a call for code."""
    return _is_value(match, _NAME)


def is_stated_password(match: re.Match[str]) -> bool:
    """As `is_password`, in a text that is no program's: there a plain word is a value, and only a call is code."""
    return _is_value(match, _CLOSED)


def _is_value(match: re.Match[str], name: re.Pattern[str]) -> bool:
    value = match["v"]
    return is_password(match) and not (name.fullmatch(value) or _CODE.fullmatch(value)) and len(set(value)) > 3


def is_random(match: re.Match[str]) -> bool:
    """Whether the group `v` looks drawn by chance: letters and digits, at least 3.3 bits a character, and no path."""
    value = match["v"]
    has_both = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return is_password(match) and has_both and entropy(value) >= 3.3 and not _PATH.match(value)


def has_key_body(match: re.Match[str]) -> bool:
    """Whether a key's content follows its first line; code that only names that line is no key."""
    return re.search(r"[A-Za-z0-9+/=]{8}", match["v"]) is not None


def entropy(text: str) -> float:
    """Shannon entropy of the characters of `text`, in bits a character; 0 for an empty text."""
    return sum(count / len(text) * math.log2(len(text) / count) for count in Counter(text).values())
