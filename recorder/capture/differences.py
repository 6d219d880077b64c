"""What sets two nodes of one run apart, as far as it can change results or explain a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from recorder.capture.variables import numerical_overrides


def node_differences(reference: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """Differences that matter, sorted: `{"kind", "name", "reference", "other"}`, null for what a node does not have.

    A node is `{"packages": capture_packages(), "system": capture_system(...), "torch": torch_facts()}`; a part that one
    of the two lacks is not compared. `kind` is "package", "system" or "torch". Names, sizes and loads of hosts do not
    matter.
    """
    found = []
    for part, kind, essentials in _PARTS:
        if reference.get(part) and other.get(part):
            found += _compare(kind, essentials(reference[part]), essentials(other[part]))
    return found


def leaves(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values that are no objects, by their dotted path."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= leaves(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return found


def _compare(kind: str, reference: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "name": name, "reference": reference.get(name), "other": other.get(name)}
        for name in sorted({*reference, *other})
        if reference.get(name) != other.get(name)
    ]


def _versions(packages: dict[str, Any]) -> dict[str, str]:
    return {package["name"]: _version(package) for package in packages["packages"]}


def _version(package: dict[str, Any]) -> str:
    """The version, with the commit it was built from where it is known: a version may stand for many commits."""
    commit = (package["origin"] or {}).get("commit")
    return f"{package['version']} at {commit}" if commit else str(package["version"])


def _essentials(system: dict[str, Any]) -> dict[str, Any]:
    gpu, cpu = system["gpu"], system["cpu"]
    names = Counter(device["name"] for device in gpu["devices"] or [])
    return leaves(
        {
            "python": {key: system["python"][key] for key in ("version", "implementation")},
            "os": {key: system["os"][key] for key in ("system", "kernel", "libc")},
            "cpu": {key: cpu[key] for key in ("model", "identity", "architecture", "isa")},
            "gpu": {"devices": dict(names), "driver": gpu["driver"], "problem": gpu["problem"]},
            "container": {"image_digest": system["container"]["image_digest"]},
            "environment": numerical_overrides(system["environment"]),
        }
    )


def _computing(torch_facts: dict[str, Any]) -> dict[str, Any]:
    return leaves({key: torch_facts[key] for key in ("version", "git_version", "cpu_capability", "libraries")})


_PARTS: tuple[tuple[str, str, Callable[[dict[str, Any]], dict[str, Any]]], ...] = (
    ("packages", "package", _versions),
    ("system", "system", _essentials),
    ("torch", "torch", _computing),
)
