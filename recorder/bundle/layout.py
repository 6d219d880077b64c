"""Every path of a bundle, once. All are POSIX paths relative to the bundle's folder."""

from __future__ import annotations

import re
from pathlib import Path

FORMAT = 1

MANIFEST = "bundle.json"
RUN = "run.json"
RESOLVED_CONFIG = "config/resolved.yaml"
OVERRIDES = "config/overrides.yaml"
HYDRA_CONFIG = "config/hydra.yaml"
PACKAGES = "environment/packages.json"
REQUIREMENTS = "environment/requirements.txt"
SYSTEM = "environment/system.json"
SOURCE = "source/source.json"
SOURCE_ARCHIVE = "source/source.tar.gz"
SOURCE_PATCH = "source/diff.patch"
DATASET = "data/dataset.json"
TOKENIZER = "data/tokenizer.json"
LEDGER = "ledger"
METRICS = "metrics"
SYSTEM_METRICS = "system"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
ADDENDA = "addenda"

CHECKPOINT_STATE = "state.json"
CHECKPOINT_MODEL = "model.safetensors"
CHECKPOINT_OPTIMIZER = "optimizer.safetensors"
PARTIAL = ".partial"

# Beside the bundles in the run folder: one lock file for each run that is being written.
LOCKS = ".locks"
# And the notes on which files of it were read back from disk.
READ_BACK = ".read-back"
# And on which objects of DVC's cache were put there for it.
TRACKED = ".tracked"
# And, where they were fetched from a release, the note on what was not; in a release they are in a folder of this name.
NOT_FETCHED = ".not-fetched.json"
RELEASED = "runs"

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_CHECKPOINT = re.compile(r"step-(\d{8,})")
_VERSION = re.compile(r"\.attempt-\d{4,}(-\d+)?(?=\.)")


def is_run_id(text: str) -> bool:
    """Whether `text` can name a bundle's folder: letters, digits, `_`, `.` and `-`, no path tricks."""
    return _RUN_ID.fullmatch(text) is not None and not text.endswith(PARTIAL)


def node_file(node: str) -> str:
    """Where the environment of one node is kept."""
    return f"environment/nodes/{node}.json"


def version(path: str, attempt: int, number: int = 1) -> str:
    """Where a further attempt keeps content of `path` that differs; `number` counts those of one attempt."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.partition(".")
    mark = f".attempt-{attempt:04d}" + (f"-{number}" if number > 1 else "")
    return f"{folder}{slash}{stem}{mark}{dot}{suffix}"


def first_version(path: str) -> str:
    """The path whose `version` this is; `path` itself when it is none."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{_VERSION.sub('', name, count=1)}"


def ledger_segment(number: int) -> str:
    """Ledger segment `number`, counted from 1 over the whole run."""
    return f"{LEDGER}/{number:04d}.jsonl"


def open_series(series: str, number: int) -> str:
    """The segment of a series that is being written."""
    return f"{series}/{number:04d}.jsonl"


def closed_series(series: str, number: int) -> str:
    """A closed segment of a series."""
    return f"{series}/{number:04d}.parquet"


def log_file(attempt: int, origin: str) -> str:
    """The log of one process of one attempt; `origin` is `driver` or `rank-<r>`."""
    return f"{LOGS}/{attempt:04d}/{origin}.log"


def checkpoint_folder(step: int) -> str:
    """The checkpoint that holds the state after `step` steps."""
    return f"{CHECKPOINTS}/step-{step:08d}"


def checkpoint_step(name: str) -> int | None:
    """The step of a checkpoint folder's name, or None for any other name."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match else None


def is_partial(path: str) -> bool:
    """Whether this is a checkpoint's folder while it is being written."""
    return path.endswith(PARTIAL)


def writer_of_partial(name: str) -> int | None:
    """The id of the process that writes, or wrote, the unfinished checkpoint in a folder of this name."""
    number = name.removesuffix(PARTIAL).rpartition(".")[2]
    return int(number) if number.isdecimal() else None


def archived_seal(number: int) -> str:
    """Where the manifest of an earlier seal is kept after a resume."""
    return f"{ADDENDA}/seal-{number:04d}.json"


def segments(bundle: Path, folder: str) -> list[Path]:
    """Segment files of the ledger or a series in order; a closed one hides the open one it was made from."""
    found: dict[int, Path] = {}
    for path in sorted((bundle / folder).glob("[0-9]*.*")):
        if path.suffix in {".jsonl", ".parquet"} and path.stem.isdigit():
            found[int(path.stem)] = path
    return [found[number] for number in sorted(found)]
