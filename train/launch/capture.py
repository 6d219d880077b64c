"""What the driver captures before the first step: the files that go into the bundle as it is opened."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recorder.bundle import layout
from recorder.canonical import digest, digest_json, readable_json
from recorder.capture.packages import capture_packages, requirements_text
from recorder.capture.source import capture_source
from recorder.capture.system import capture_system
from recorder.release.secrets.masking import mask_values
from recorder.tracking.workspace import lasting
from train.config import Config
from train.data import PreparedData


@dataclass(frozen=True)
class Captured:
    """Files of the bundle, and the parts of them that workers and later steps need."""

    files: dict[str, bytes]
    archive: bytes
    source_digest: str
    config_digest: str
    system: dict[str, Any]
    packages: dict[str, Any]


def capture(
    config: Config, values: dict[str, Any], root: Path, prepared: PreparedData, hydra: dict[str, Any]
) -> Captured:
    """Capture config, packages, system, source below `root`, and the data's record.

    `hydra` holds `overrides` (what was typed) and `config` (Hydra's own). Credentials in either, and in `values`, are
    masked; the config's digest is that of the masked values. Raises UsageError when the source is larger
    than `recorder.source_limit_mb`.
    """
    limit = int(config.recorder.source_limit_mb * 1e6)
    source = capture_source(
        root, limit, [lasting(Path(config.run.dir)).resolve(), lasting(Path(config.data.cache)).resolve()]
    )
    packages, system = capture_packages(), capture_system(os.environ)
    values = mask_values(values)
    data = prepared.record | {"summary": prepared.summary(config.data.sequence_length)}
    files = {
        layout.RESOLVED_CONFIG: to_yaml(values),
        layout.OVERRIDES: to_yaml(mask_values(hydra["overrides"])),
        layout.HYDRA_CONFIG: to_yaml(mask_values(hydra["config"])),
        layout.PACKAGES: readable_json(packages),
        layout.REQUIREMENTS: requirements_text(packages).encode(),
        layout.SYSTEM: readable_json(system),
        layout.SOURCE: readable_json(source.record),
        layout.SOURCE_ARCHIVE: source.archive,
        layout.SOURCE_PATCH: source.patch,
        layout.DATASET: readable_json(data),
        layout.TOKENIZER: readable_json(prepared.tokenizer.to_json()),
    }
    return Captured(files, source.archive, digest(source.archive), digest_json(values), system, packages)


def command_line(arguments: list[str]) -> str:
    """The command as a shell would take it again; the interpreter's and the script's folders are left out.

    Credentials in it are masked.
    """
    script = Path(arguments[0]).name if arguments else "train.py"
    return shlex.join(["python", script, *mask_values(arguments[1:])])


def to_yaml(values: Any) -> bytes:
    """Plain values as YAML, keys in their order."""
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    return text.encode()
