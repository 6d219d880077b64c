"""Whether what was used is what was recorded: the config and the source of each attempt."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from recorder.bundle import layout
from recorder.bundle.findings import Findings
from recorder.bundle.verify_files import Files
from recorder.bundle.verify_ledger import AttemptFacts, LedgerFacts
from recorder.canonical import digest_json

# Sections of the config that the bits do not depend on.
_FREE_SECTIONS = ("run", "cluster", "checkpoint", "recorder")


@dataclass(frozen=True)
class Promise:
    """What an attempt promises about its bits: equal `key`, equal bits; nothing unless `promised`.

    A step of it is `micro_batches` micro-batches, whoever computes them; None where no config says how many.
    """

    key: Hashable
    promised: bool
    micro_batches: int | None = None


def check_configs(files: Files, ledger: LedgerFacts, findings: Findings) -> dict[int, Promise]:
    """Compare the digests that the driver and the workers of each attempt stated with what the bundle holds."""
    captured: dict[str, str] = {}
    promises = {}
    for number, attempt in sorted(ledger.attempts.items()):
        captured |= {layout.first_version(path): path for path in attempt.files}
        config_path = captured.get(layout.RESOLVED_CONFIG, layout.RESOLVED_CONFIG)
        source_path = captured.get(layout.SOURCE_ARCHIVE, layout.SOURCE_ARCHIVE)
        values = _load(files, config_path, findings)
        if _can_be_compared(files, config_path, values):
            own = digest_json(values) if values is not None else None
            _compare(number, attempt, "config_digest", config_path, own, findings)
        if files.known(source_path) or not files.has(source_path):
            own = files.digest(source_path) if files.has(source_path) else None
            _compare(number, attempt, "source_digest", source_path, own, findings)
        promises[number] = _promise(values, attempt)
    return promises


def _can_be_compared(files: Files, path: str, values: Any) -> bool:
    """Whether the values are those that were used, or are missing without a word."""
    if path in files.altered.edits or files.withheld(path):
        return False
    return values is not None or path not in files.sizes


def _load(files: Files, path: str, findings: Findings) -> Any:
    """The plain values of a YAML file; None when it is not there, damaged or not plain, the last being a finding."""
    if not files.sound(path):
        return None
    import yaml

    try:
        values = yaml.safe_load((files.bundle / path).read_bytes())
        digest_json(values)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        findings.add(path, "config", f"it cannot be read as plain values: {' '.join(str(error).split())}")
        return None
    return values


def _compare(number: int, attempt: AttemptFacts, key: str, path: str, own: str | None, findings: Findings) -> None:
    stated = [(f"the driver of attempt {number}", attempt.started.get(key))]
    stated += [(f"rank {worker['rank']} of attempt {number}", worker.get(key)) for worker in attempt.joined]
    for who, used in stated:
        if used is not None and used != own:
            what = f"this file has {own}" if own else "the bundle does not hold it"
            findings.add(path, "config", f"{who} used {key} {used}, {what}")


def _promise(values: Any, attempt: AttemptFacts) -> Promise:
    config = values if isinstance(values, dict) else {}
    train = config["train"] if isinstance(config.get("train"), dict) else {}
    micro_batches = train.get("micro_batches")
    bits = {key: value for key, value in config.items() if key not in _FREE_SECTIONS}
    classes = frozenset(str(worker.get("determinism")) for worker in attempt.joined)
    return Promise(
        key=(digest_json(bits), classes),
        promised=train.get("reduction") != "native",
        micro_batches=micro_batches if isinstance(micro_batches, int) else None,
    )
