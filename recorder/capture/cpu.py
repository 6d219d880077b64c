"""The processor: its model, its cores and the instruction sets that kernels choose by."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import psutil

from recorder.canonical import digest_json

# x86 and Arm extensions that numerical kernels are compiled for.
_VECTOR_FLAG = re.compile(
    r"sse4_[12]|avx\w*|amx_\w+|fma|f16c|bmi[12]|neon|asimd\w*|fphp|bf16|i8mm|sve\w*|sme(2|_\w+)?", re.ASCII
)


def capture_cpu(root: Path = Path("/")) -> dict[str, Any]:
    """Model, identity, cores, vector extensions (`isa`) and a digest of all flags; null where unknown.

    `root` is where the `proc` file system is mounted.
    """
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    fields = first_processor(text)
    flags = sorted((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "model": fields.get("model name") or platform.processor() or None,
        "identity": identity(fields),
        "architecture": platform.machine(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "isa": sorted(filter(_VECTOR_FLAG.fullmatch, flags)),
        "flags_digest": digest_json(flags) if flags else None,
    }


def first_processor(text: str) -> dict[str, str]:
    """The fields of the first processor that `/proc/cpuinfo` lists."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def identity(fields: dict[str, str]) -> str | None:
    """What libraries tell microarchitectures apart by; clouds hide the model name, and Arm kernels print none."""
    if "cpu family" in fields:
        return f"{fields.get('vendor_id')} family {fields['cpu family']} model {fields.get('model')}"
    if "CPU part" in fields:
        return f"implementer {fields.get('CPU implementer')} part {fields['CPU part']}"
    return None
