"""The installed Python packages, exactly, and a requirements file that asks pip for them again."""

from __future__ import annotations

import json
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from recorder.capture.urls import without_credentials

_FIELD = re.compile(r"^(Name|Version): *(.*?) *$", re.MULTILINE)
_PEP_440 = re.compile(
    r"v?([0-9]+!)?[0-9]+(\.[0-9]+)*([-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?[0-9]*)?"
    r"(-[0-9]+|[-_.]?(post|rev|r)[-_.]?[0-9]*)?([-_.]?dev[-_.]?[0-9]*)?(\+[a-z0-9]+([-_.][a-z0-9]+)*)?",
    re.IGNORECASE,
)


def capture_packages() -> dict[str, Any]:
    """Python and every installed distribution, sorted by canonical name; described by the schema `packages`.

    `origin` is null for a package from an index, else what PEP 610 says of it, with URLs without credentials. Of two
    distributions with one name the first on `sys.path` counts, as for an import; but one that an installer put there
    goes before one that none did, which is what building leaves in a source tree. What a package brings along inside
    itself and puts on `sys.path` as it is imported (setuptools, Ray) was not installed and does not count.
    """
    found: dict[str, dict[str, Any]] = {}
    unreadable = 0
    for distribution in distributions(path=_search_path()):
        package = _package(distribution)
        if package is None:
            unreadable += 1
        elif package["name"] not in found or (package["installer"] and not found[package["name"]]["installer"]):
            found[package["name"]] = package
    return {
        "python": {"version": platform.python_version(), "implementation": sys.implementation.name},
        "packages": [found[name] for name in sorted(found)],
        "unreadable": unreadable,
    }


def _search_path() -> list[str]:
    """`sys.path` without folders inside a package of a site folder."""
    sites = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return [entry for entry in sys.path if not sites.intersection(Path(entry).resolve().parents)]


def requirements_text(packages: dict[str, Any]) -> str:
    """A requirements file for pip that asks for what `capture_packages` found, one package a line.

    What pip could not find anywhere is a comment: editable packages, and versions that are none by PEP 440. The local
    part of a version (`+cpu`) and the path of a local file are dropped, for no index has them, and stated beside it.
    """
    python = packages["python"]
    lines = [f"# {python['implementation']} {python['version']}", *map(_requirement, packages["packages"])]
    return "".join(f"{line}\n" for line in lines)


def canonical_name(name: str) -> str:
    """The one spelling of a distribution's name, by PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _package(distribution: Distribution) -> dict[str, Any] | None:
    # The whole of METADATA as an e-mail message, descriptions included, would take most of the time.
    text = next(filter(None, (_text(distribution, file) for file in ("METADATA", "PKG-INFO", ""))), "")
    fields = dict(_FIELD.findall(text.partition("\n\n")[0]))
    if not fields.get("Name") or not fields.get("Version"):
        return None
    origin = _origin(distribution)
    return {
        "name": canonical_name(fields["Name"]),
        "version": fields["Version"],
        "installer": _text(distribution, "INSTALLER").strip() or None,
        "editable": bool(origin and origin.pop("editable")),
        "origin": origin,
    }


def _text(distribution: Distribution, file: str) -> str:
    try:
        return distribution.read_text(file) or ""
    except UnicodeDecodeError:
        return ""


def _origin(distribution: Distribution) -> dict[str, Any] | None:
    """What `direct_url.json` says, by PEP 610; None without one or with one that is broken."""
    try:
        stated = json.loads(_text(distribution, "direct_url.json") or "null")
        return None if stated is None else dict(_origin_fields(stated))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _origin_fields(stated: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    version_control = stated.get("vcs_info") or {}
    yield "url", without_credentials(stated["url"])
    yield "editable", bool(stated.get("dir_info", {}).get("editable"))
    yield "vcs", version_control.get("vcs")
    yield "commit", version_control.get("commit_id")
    yield "hashes", stated.get("archive_info", {}).get("hashes") or {}
    yield "subdirectory", stated.get("subdirectory")


def _requirement(package: dict[str, Any]) -> str:
    name, version, origin = package["name"], package["version"], package["origin"]
    if package["editable"]:
        return f"# editable: {name} {version}"
    if origin and not _is_local(origin["url"]):
        return f"{name} @ {_direct_url(origin)}"
    if not _PEP_440.fullmatch(version):
        return f"# not a version that pip can ask for: {name} {version}"
    public, _, local = version.partition("+")
    notes = [f"exactly {version}"] if local else []
    if origin:
        notes.append(f"from a local repository, commit {origin['commit']}" if origin["commit"] else "from a local file")
    return f"{name}=={public}" + (f"  # {', '.join(notes)}" if notes else "")


def _is_local(url: str) -> bool:
    return url.partition(":")[0].lower().endswith("file") or "://" not in url


def _direct_url(origin: dict[str, Any]) -> str:
    url = f"{origin['vcs']}+{origin['url']}@{origin['commit']}" if origin["vcs"] else origin["url"]
    fragment = [f"subdirectory={origin['subdirectory']}"] if origin["subdirectory"] else []
    if digest := origin["hashes"].get("sha256"):
        fragment.append(f"sha256={digest}")
    return url + (f"#{'&'.join(fragment)}" if fragment else "")
