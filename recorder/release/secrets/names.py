"""The names to look for: of the machines, addresses and people that a bundle's own record tells of, and of this one."""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recorder.bundle import layout
from recorder.release.secrets.private_rules import FIXED, HOME, Names

_HOST_KEYS = frozenset({"host", "hostname", "node", "nodes", "head_host"})
_ADDRESS_KEYS = frozenset({"address", "ip", "node_ip"})
_USER_KEYS = frozenset({"user", "username", "login"})
_ADDRESS = re.compile(r"[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]*")
_PAIR = re.compile(r'"([a-z_]+)":\s*"([^"\\\\]+)"')
_HOME_RULES = [rule for rule in FIXED if rule.kind == HOME]


def machine_names() -> Names:
    """The names of this machine and of who works on it."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    users = {name for name in (user, Path.home().name) if name}
    return Names(frozenset({host, host.split(".")[0]}), frozenset(users))


def recorded_names(bundle: Path) -> Names:
    """The names that the ledger, run.json and the captured files of `bundle` give.

    What is damaged is read as far as it can be: a name that stands there alone may be missed.
    """
    hosts: set[str] = set()
    users: set[str] = set()
    addresses: set[str] = set()
    for key, text in _texts(bundle):
        if key in _HOST_KEYS:
            hosts |= {text, text.split(".")[0]} if not _ADDRESS.fullmatch(text) else set()
        if key in _ADDRESS_KEYS or key in _HOST_KEYS:
            addresses |= {text} if _ADDRESS.fullmatch(text) else set()
        if key in _USER_KEYS:
            users.add(text)
        users |= {text[span.start : span.end] for rule in _HOME_RULES for span in rule.spans(text)}
    return Names(frozenset(hosts), frozenset(users), frozenset(addresses))


def _texts(bundle: Path) -> Iterator[tuple[str, str]]:
    for path in layout.segments(bundle, layout.LEDGER):
        with path.open("rb") as file:
            for line in file:
                yield from _leaves_of(line)
    for pattern in (layout.RUN, "environment/*.json", layout.node_file("*"), "source/source*.json", "data/*.json"):
        for path in sorted(bundle.glob(pattern)):
            yield from _leaves_of(path.read_bytes())
    for path in sorted((bundle / "config").glob("*.yaml")):
        yield "", path.read_text(errors="surrogateescape")


def _leaves_of(data: bytes) -> Iterator[tuple[str, str]]:
    """Each text within JSON; of what is none what looks like a key and its text, and all of it."""
    try:
        yield from _leaves("", json.loads(data))
    except (ValueError, RecursionError):
        text = data.decode(errors="surrogateescape")
        yield from _PAIR.findall(text)
        yield "", text


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Each text within `value`, with the key it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(str(name), item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(key, item)
