"""What sets the machines of two runs apart, whatever they are called and however many there are."""

from __future__ import annotations

from typing import Any

from recorder.capture.differences import node_differences

Node = dict[str, Any]
Change = tuple[str, Any, Any]  # what, in the first run, in the second


def hardware_changes(a: list[Node], b: list[Node]) -> list[Change]:
    """How the machines differ, in what can change results: each against the most similar one of the other run.

    A machine like one of the other run's is no difference. Packages are left to a section of their own. Raises
    LookupError or TypeError for the record of a machine that is not as its schema says.
    """
    if not a or not b:
        return [("machines", len(a), len(b))] if len(a) != len(b) else []
    forward = [change for node in b for change in _nearest(a, node)]
    backward = [(name, there, here) for node in a for name, here, there in _nearest(b, node)]
    unique = {repr(change): change for change in (*forward, *backward)}
    return list(unique.values())


def _nearest(others: list[Node], node: Node) -> list[Change]:
    """The differences between `node` and the most similar of `others`: what, there, here."""
    return min((_changes(other, node) for other in others), key=len)


def _changes(reference: Node, other: Node) -> list[Change]:
    differences = node_differences(reference, other)
    both_know_torch = bool(reference.get("torch")) and bool(other.get("torch"))
    return [
        (f"{found['kind']}.{found['name']}", found["reference"], found["other"])
        for found in differences
        if found["kind"] == "system" or (found["kind"] == "torch" and both_know_torch)
    ]
