"""The secrets gate: everything in a bundle that must not be published, file by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recorder.release.secrets.masking import fingerprint, mask
from recorder.release.secrets.places import pieces
from recorder.release.secrets.private_rules import Names
from recorder.release.secrets.rule import Span
from recorder.release.secrets.scanner import Hit, Scanner

_AROUND = 24


@dataclass(frozen=True)
class Finding:
    """One secret. `path` is that in the bundle, with `!` and the member, column or header it is in, if it is in one.

    `line` counts from 1, as do rows; 0 is the name of a file or member, or what describes a table. `excerpt` is what
    stands around it, itself and all others masked. `fingerprint` is the same for the same secret wherever it stands.
    """

    path: str
    line: int
    kind: str
    excerpt: str
    fingerprint: str
    private: bool

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What was found. `credentials` bar a release, `private` names are replaced in it, `allowed` were let through.

    `unknown` are fingerprints that were to be allowed and are of nothing that was found.
    """

    credentials: tuple[Finding, ...]
    private: tuple[Finding, ...]
    allowed: tuple[Finding, ...]
    unknown: tuple[str, ...]
    bytes: int


def scan_bundle(bundle: Path, names: Names, allow: Collection[str] = (), leave_out: Collection[str] = ()) -> Verdict:
    """Look at every file below `bundle` but those in `leave_out`, which are not to be published.

    `allow` holds fingerprints. Memory is bounded by the biggest member of an archive.
    """
    scanner, size = Scanner(names), 0
    found: list[Finding] = []
    for path in sorted(path for path in bundle.rglob("*") if path.is_file() and not path.is_symlink()):
        name = path.relative_to(bundle).as_posix()
        if name not in leave_out:
            size += path.stat().st_size
            found += scan_file(path, name, scanner)
    present = {finding.fingerprint for finding in found}
    rest = [finding for finding in found if finding.fingerprint not in allow]
    return Verdict(
        credentials=tuple(finding for finding in rest if not finding.private),
        private=tuple(finding for finding in rest if finding.private),
        allowed=tuple(finding for finding in found if finding.fingerprint in allow),
        unknown=tuple(sorted(set(allow) - present)),
        bytes=size,
    )


def once_a_file(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Records of findings: of each secret the first place in each file, and in how many `places` there it stands."""
    places = Counter((finding.path, finding.fingerprint) for finding in found)
    first: dict[tuple[str, str], Finding] = {}
    for finding in found:
        first.setdefault((finding.path, finding.fingerprint), finding)
    return [finding.record() | {"places": places[key]} for key, finding in first.items()]


def scan_file(path: Path, name: str, scanner: Scanner) -> Iterator[Finding]:
    """The findings in the file at `path`, which the bundle knows by `name`, and in that name."""
    for hit in scanner.hits([name.encode(errors="surrogateescape")]):
        yield from _findings(name, 0, hit)
    for piece in pieces(path):
        place = f"{name}!{piece.place}" if piece.place else name
        for hit in scanner.hits(piece.lines, piece.is_code):
            yield from _findings(place, piece.number(hit.number), hit)


def scan_text(text: str, place: str, scanner: Scanner, is_code: bool = False) -> Iterator[Finding]:
    """The findings in a text of one line or many, which is called `place`."""
    lines = [line.encode(errors="surrogateescape") for line in text.split("\n")]
    for hit in scanner.hits(lines, is_code):
        yield from _findings(place, hit.number + 1, hit)


def _findings(place: str, line: int, hit: Hit) -> Iterator[Finding]:
    for span in hit.spans:
        if not span.continued:
            own = fingerprint(span.rule, hit.text[span.start : span.end])
            yield Finding(place, line, span.kind, excerpt(hit, span), own, span.rule.private)


def excerpt(hit: Hit, span: Span) -> str:
    """What stands around `span`, with every secret of the line masked; what cannot be printed is escaped."""
    first, last = max(0, span.start - _AROUND), span.end + _AROUND
    parts, reached = [], first
    for other in hit.spans:
        if other.end > first and other.start < last:
            secret = hit.text[other.start : other.end]
            parts += [hit.text[reached : other.start], mask(other.rule, secret)]
            reached = other.end
    text = "".join([*parts, hit.text[reached:last]])
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
