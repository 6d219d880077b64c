"""The cheap stages of `dvc.yaml` before training: `python -m train.stages inputs`, then `prepare`.

`inputs` composes `params.yaml` from `conf/` when a value there has changed, and says which code and packages there are,
without comments, so that a comment trains nothing again. `prepare` makes the token shards and says which data they are.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorder.bundle.files import write_file
from recorder.canonical import digest, digest_json, readable_json
from recorder.errors import RecorderError, UsageError
from recorder.tracking.locked_params import flat, load_yaml
from recorder.tracking.workspace import EXPERIMENT_VARIABLE
from train.ancestors import stop_with_dvc
from train.compose import compose_file, explain, validate
from train.data import prepare
from train.stage import DATA, read_params

PARAMS, INPUTS = Path("params.yaml"), Path("pipeline/inputs.json")
# What was composed last, as a digest; no stage depends on it.
CONF = Path("pipeline/conf.json")
CODE, PACKAGES = ("train.py", "train"), Path("requirements.lock")


def main(arguments: list[str]) -> int:
    """Run one stage; every mistake of the user's is one line."""
    stages: dict[str, Callable[[], None]] = {"inputs": inputs, "prepare": prepare_data}
    stop_with_dvc(_say)
    try:
        if len(arguments) != 1 or arguments[0] not in stages:
            raise UsageError(f"say which stage: {', '.join(stages)}")
        stages[arguments[0]]()
    except Exception as error:
        known = error if isinstance(error, RecorderError) else explain(error)
        if known is None:
            raise
        _say(str(known))
        return known.exit_code
    return 0


def inputs() -> None:
    """Compose `params.yaml` where `conf/` says something new, and write the digests of code and packages.

    What a person or an experiment has put into it stays while the values of `conf/` do. DVC itself composes it for an
    experiment. Raises ConfigError for what cannot be composed or is not allowed.
    """
    composed = compose_file(Path("conf"), "config")
    values = load_yaml(composed)
    known = readable_json({"conf": digest_json(values)})
    if EXPERIMENT_VARIABLE not in os.environ and not (PARAMS.exists() and _content(CONF) == known):
        validate(values)
        _tell_changes(values)
        write_file(PARAMS, composed)
    write_file(CONF, known)
    code = {path.as_posix(): code_digest(path.read_bytes()) for path in _modules()}
    write_file(INPUTS, readable_json({"code": digest_json(code), "packages": packages_digest(PACKAGES.read_text())}))


def prepare_data() -> None:
    """Make the token shards that `params.yaml` asks for, and name them. Raises DataError for unfit input."""
    config = validate(read_params(str(PARAMS)))
    write_file(DATA, readable_json(prepare(config.data, _say).record))


def code_digest(source: bytes) -> str:
    """A digest of what Python makes of a module: comments, docstrings and layout are no part of it. SyntaxError."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(
            node
        ):
            del node.body[0]
    return digest(ast.dump(tree).encode())


def packages_digest(lock: str) -> str:
    """A digest of the pinned versions in the text of a requirements file, without its hashes and comments."""
    lines = (line.split("#")[0].strip().rstrip("\\").strip() for line in lock.splitlines())
    return digest_json(sorted(line for line in lines if line and not line.startswith("--")))


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _modules() -> list[Path]:
    files = [Path(name) for name in CODE if name.endswith(".py")]
    return sorted([*files, *(path for name in CODE for path in Path(name).rglob("*.py"))])


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _tell_changes(values: dict[str, Any]) -> None:
    """What was in `params.yaml` and is not any more is said: somebody may have put it there by hand."""
    before = flat(load_yaml(PARAMS.read_bytes()) or {}) if PARAMS.exists() else {}
    after = flat(values)
    for key in sorted(before.keys() | after.keys()):
        if before and before.get(key) != after.get(key):
            _say(f"{PARAMS}: {key} was {before.get(key)}, conf/ says {after.get(key)}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
