"""The determinism class: everything outside config, code and data that the bits of a run depend on."""

from __future__ import annotations

from typing import Any

from recorder.canonical import digest_json
from recorder.capture.differences import leaves
from recorder.capture.variables import numerical_overrides

_ID_DIGITS = 16
_CPU_LIBRARIES = ("mkl", "onednn", "blas", "lapack", "openmp")


def determinism_class(
    system: dict[str, Any],
    torch_facts: dict[str, Any],
    *,
    device: str,
    threads: int,
    precision: str,
    compile: bool,
) -> dict[str, Any]:
    """The class of a run on `device` ("cpu" or "cuda"), from what `capture_system` and `torch_facts` returned.

    `id` is a short digest of the rest: equal ids promise equal bits for equal config, code and data. `device_model`
    and `isa` are lists, for a process may see several kinds of GPU.
    """
    libraries = torch_facts["libraries"]
    if device == "cpu":
        cpu = system["cpu"]
        models = [" ".join(filter(None, (cpu["model"], cpu["identity"])))]
        isa = [torch_facts["cpu_capability"], *cpu["isa"]]
        libraries = {name: libraries[name] for name in _CPU_LIBRARIES}
    else:
        models = sorted({gpu["name"] for gpu in torch_facts["gpus"]})
        isa = sorted({gpu["compute_capability"] for gpu in torch_facts["gpus"]})
    found = {
        "device": device,
        "device_model": models,
        "isa": isa,
        "torch": torch_facts["version"],
        "libraries": libraries,
        "overrides": numerical_overrides(system["environment"]),
        "threads": threads,
        "precision": precision,
        "compile": compile,
    }
    return {**found, "id": digest_json(found)[:_ID_DIGITS]}


def explain_difference(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """One line for each part in which two classes differ, "part: in a, in b"; empty for equal classes.

    Of lists only what the other lacks is shown.
    """
    first, second = leaves(a), leaves(b)
    return [
        f"{name}: {_shown(first.get(name), second.get(name))}, {_shown(second.get(name), first.get(name))}"
        for name in dict.fromkeys([*first, *second])
        if name != "id" and first.get(name) != second.get(name)
    ]


def _shown(value: Any, against: Any) -> str:
    if isinstance(value, list):
        return " ".join(item for item in value if item not in (against or [])) or "nothing else"
    return "none" if value is None else str(value)
