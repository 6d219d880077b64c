"""From `data.files` to the files themselves: found, checked and digested."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from recorder.bundle.files import blake3_file
from recorder.errors import DataError
from train.data.source import InputFile

TXT, JSONL = ".txt", ".jsonl"


def input_files(patterns: Sequence[str]) -> tuple[InputFile, ...]:
    """The files of `patterns` (paths or globs) in the order given, those of a glob in the order of their paths.

    Raises DataError for a file that is missing, unreadable, empty, named twice or neither .txt nor .jsonl, and for a
    glob without a match.
    """
    files: dict[Path, InputFile] = {}
    for pattern in patterns:
        for path in _matches(pattern):
            file = _digested(path)
            if files.setdefault(path.resolve(), file) is not file:
                raise DataError(f"data.files: {file.name} is named twice; name each file once")
    return tuple(files.values())


def listed(names: Sequence[str]) -> str:
    """Names for a message: all of them up to three, else two and how many more."""
    shown = list(names) if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)


def unreadable(name: str, error: OSError) -> DataError:
    """The message for a file that the system would not let us read."""
    return DataError(f"data.files: {name} cannot be read: {error.strerror}")


def _matches(pattern: str) -> list[Path]:
    # A name with brackets in it may be a file's own.
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [Path(pattern)]
    found = [path for path in map(Path, sorted(glob.glob(pattern, recursive=True))) if not path.is_dir()]
    if not found:
        raise DataError(f"data.files: {pattern} matches no file in {Path.cwd()}; correct the pattern")
    return found


def _digested(path: Path) -> InputFile:
    name = _recorded_name(path)
    if path.is_dir():
        raise DataError(f"data.files: {name} is a folder; name its files, such as {name}/*{TXT}")
    if path.suffix.lower() not in (TXT, JSONL):
        raise DataError(f"data.files: {name} ends in {path.suffix or 'nothing'!r}; allowed are {TXT} and {JSONL}")
    try:
        file = InputFile(path, name, path.stat().st_size, blake3_file(path))
    except FileNotFoundError as error:
        raise DataError(f"data.files: {name} does not exist in {Path.cwd()}; correct the path") from error
    except OSError as error:
        raise unreadable(name, error) from error
    if not file.size:
        raise DataError(f"data.files: {name} is empty; leave it out or fill it")
    return file


def _recorded_name(path: Path) -> str:
    """A POSIX path, relative where the file lies below the working folder, so that the record fits any machine."""
    absolute = Path.cwd() / path
    return (absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else path).as_posix()
