"""Private names: of people, machines and places on them. They open nothing, and are nobody else's business."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from recorder.release.secrets.rule import Rule

HOST, USER, NODE_ADDRESS = "host-name", "user-name", "node-address"
HOME, ADDRESS, EMAIL, MAC = "home-path", "private-address", "email-address", "mac-address"

# Names that thousands of machines and accounts have, and that are words of every log.
_GENERIC = frozenset(
    {
        *("localhost", "localdomain", "local", "host", "node", "head", "worker", "driver", "cpu", "gpu", "none"),
        *("root", "user", "users", "admin", "nobody", "runner", "ubuntu", "debian", "centos", "ec2-user", "ray"),
        *("home", "shared", "data", "test", "python", "jovyan", "app", "guest", "public", "default"),
    }
)
# A Ray node's id: drawn by chance, names nobody.
_DRAWN = re.compile(r"[0-9a-f]{32,}")
_VERSION_BEFORE = re.compile(r"(?:[=~<>!]=|version[\"'\\]{0,2}\s{0,2}[:=]\s{0,2}[\"'\\]{0,2}|[A-Za-z][_@-]v?)$")
_NOBODYS = re.compile(
    r"(?:git|hg|svn)@|.*@(?:.*\.)?(?:example\.(?:com|org|net)|[^@]*\.(?:example|invalid|test|localhost))$"
)
# What a release puts in the place of a name.
PSEUDONYM = re.compile(r"(?:host|user|address|email|device)-[0-9a-f]{10}")
_FILE_ENDINGS = (".py", ".json", ".yaml", ".yml", ".log", ".txt", ".so", ".parquet", ".local")


@dataclass(frozen=True)
class Names:
    """What machines, their addresses and their users are called."""

    hosts: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    def __or__(self, other: Names) -> Names:
        return Names(self.hosts | other.hosts, self.users | other.users, self.addresses | other.addresses)

    def is_private(self, name: str) -> bool:
        """Whether `name` may be looked for: no word of every log, no single letter, no id drawn by chance."""
        return len(name) > 1 and name.lower() not in _GENERIC and not _DRAWN.fullmatch(name) and not name.isdecimal()


def _is_whole_word(match: re.Match[str]) -> bool:
    text, start, end = match.string, match.start(), match.end()
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    return before not in {"_", "-"} and after not in {"_", "-"}


def _is_private_address(match: re.Match[str]) -> bool:
    if _VERSION_BEFORE.search(match.string, max(0, match.start() - 16), match.start()):
        return False
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return False
    return address.is_private and not (address.is_loopback or address.is_unspecified or _is_documentation(address))


def _is_documentation(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Blocks that stand in documents, and the broadcast and reserved ones, which Python counts as private too."""
    blocks = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "0.0.0.0/8", "240.0.0.0/4", "2001:db8::/32")
    return any(address in ipaddress.ip_network(block) for block in blocks)


def _is_address_of_a_person(match: re.Match[str]) -> bool:
    return not _NOBODYS.match(match[0]) and not match[0].endswith(_FILE_ENDINGS)


def _is_a_persons(match: re.Match[str]) -> bool:
    return match["v"].lower() not in _GENERIC and not PSEUDONYM.fullmatch(match["v"])


def _is_device(match: re.Match[str]) -> bool:
    return set(match[0]) > {":", "0"} and match[0].lower() != "ff:ff:ff:ff:ff:ff"


_ENDS = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
FIXED: tuple[Rule, ...] = (
    Rule(
        EMAIL,
        "@",
        r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,18}",
        private=True,
        is_secret=_is_address_of_a_person,
        look=r"@[A-Za-z0-9.-]+\.[A-Za-z]",
    ),
    Rule(
        HOME,
        "/home/ /Users/",
        r"(?:/home/|/Users/|/var/home/|/export/home/)(?P<v>[A-Za-z0-9][A-Za-z0-9._-]{0,63})",
        private=True,
        begins=False,
        is_secret=_is_a_persons,
    ),
    Rule(
        HOME,
        ":\\",
        r"[A-Za-z]:\\{1,2}Users\\{1,2}(?P<v>[A-Za-z0-9][A-Za-z0-9._-]{0,63})",
        private=True,
        is_secret=_is_a_persons,
    ),
    Rule(
        ADDRESS,
        "10. 169.254. 172. 192.168. 100.",
        rf"(?:10|169\.254|172\.(?:1[6-9]|2[0-9]|3[01])|192\.168|100\.(?:6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7]))"
        rf"(?:\.{_ENDS}){{2,3}}",
        private=True,
        ends=True,
        look=r"(?:10|169\.254|172\.[123][0-9]|192\.168|100\.[0-9]+)\.[0-9]+\.",
        is_secret=_is_private_address,
    ),
    Rule(
        ADDRESS,
        ":",
        r"(?:f[cd][0-9a-f]{2}|fe80):[0-9a-f:]{3,40}",
        private=True,
        is_secret=_is_private_address,
        look=r"f[cde][0-9a-f]{2}:[0-9a-f:]",
    ),
    Rule(
        MAC,
        ":",
        r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}",
        private=True,
        ends=True,
        is_secret=_is_device,
        look=r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}",
    ),
)


def private_rules(names: Names) -> tuple[Rule, ...]:
    """The rules for what `names` says, as whole words, and for what shows what it is by itself."""
    return (*FIXED, *named_rules(names))


def named_rules(names: Names) -> tuple[Rule, ...]:
    """The rules for what `names` says; the name is the rule's `hints`."""
    return (
        *_named(HOST, filter(names.is_private, names.hosts)),
        *_named(NODE_ADDRESS, names.addresses - {"127.0.0.1", "::1"}),
        *_named(USER, filter(names.is_private, names.users)),
    )


def _named(kind: str, names: Iterable[str]) -> Iterable[Rule]:
    """The longest first: a name may begin with another."""
    for name in sorted(names, key=lambda name: (-len(name), name)):
        yield Rule(kind, name, re.escape(name), private=True, ends=True, is_secret=_is_whole_word)
