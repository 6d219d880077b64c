"""The part of an open bundle that its `.dvc` file does not list: DVC is told to leave it alone.

`dvc checkout`, and with it `dvc exp run` and `dvc exp apply`, removes from a folder that it tracks whatever the `.dvc`
file does not list; `dvc commit` links files that are still written to into its cache. So a `.dvcignore` beside the
bundles hides from DVC everything of an open bundle but what is listed.
"""

from __future__ import annotations

import fcntl
import itertools
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import recording_errors, write_file

IGNORE = ".dvcignore"

_BEGIN, _END = "# begin open run ", "# end open run "
_NOTE = "# Written by the recorder: what of an open run its .dvc file does not list.\n"
_SEGMENTED = (layout.LEDGER, layout.METRICS, layout.SYSTEM_METRICS)
_BLOCK = re.compile(rf"(?:{re.escape(_NOTE)})?{_BEGIN}(?P<run>\S+)\n(?:(?!{_END}).*\n)*{_END}(?P=run)\n")
_IN_CHECKPOINTS = f"{layout.CHECKPOINTS}/"
_SPECIAL = re.compile(r"([\\*?\[\]!# ])")


class OpenPart:
    """What DVC may see of the open bundle in the folder `bundle`. Others' lines in the `.dvcignore` stay."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self.path = bundle.parent / IGNORE

    def hide(self, listed: Collection[str]) -> None:
        """Let DVC see the `listed` bundle paths and nothing else. Raises RecordingError when it cannot be written.

        Call it after the `.dvc` file that lists them was written: DVC reads the `.dvc` file last, and what it finds
        listed and cannot see it leaves as it is.
        """
        run = self._bundle.name
        self._replace("\n".join([f"{_NOTE}{_BEGIN}{run}", *_patterns(run, listed), f"{_END}{run}"]) + "\n")

    def show(self) -> None:
        """Let DVC see the whole bundle. Raises RecordingError when that cannot be written."""
        self._replace("")

    def _replace(self, block: str) -> None:
        """The blocks of bundles that are gone go too."""

        def kept(match: re.Match[str]) -> str:
            is_others = match["run"] != self._bundle.name and (self._bundle.parent / match["run"]).is_dir()
            return match[0] if is_others else ""

        with self._locked():
            try:
                before = self.path.read_text()
            except FileNotFoundError:
                before = ""
            after = _BLOCK.sub(kept, before)
            if block:
                after += ("\n" if after and not after.endswith("\n") else "") + block
            if after and after != before:
                write_file(self.path, after.encode())
            elif not after:
                with recording_errors(self.path):
                    self.path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Runs that are written at the same time share the file."""
        lock = self.path.parent / layout.LOCKS / IGNORE
        with recording_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = lock.open("a")
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _patterns(run: str, listed: Collection[str]) -> Iterator[str]:
    """The last pattern that matches decides, and each folder above a file has to be seen too."""
    folders: set[str] = set()
    checkpoints: set[str] = set()
    paths: list[str] = []
    # There may be thousands, each time one more is tracked.
    for path in listed:
        if not path.isprintable():
            continue  # A name that is no line stays hidden, which does no harm.
        folder = path.rpartition("/")[0]
        if folder.startswith(_IN_CHECKPOINTS):
            # A checkpoint is whole when it is there, and is listed whole. DVC takes time for each pattern.
            checkpoints.add("/".join(folder.split("/", 2)[:2]))
            folder = layout.CHECKPOINTS
        else:
            paths.append(path)
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    yield f"/{run}/*"
    for folder in sorted(map(_escaped, folders)):
        yield f"!/{run}/{folder}/"
        yield f"/{run}/{folder}/*"
    for pattern in [*sorted(map(_escaped, checkpoints)), *_folded(paths)]:
        yield f"!/{run}/{pattern}"


def _folded(paths: Collection[str]) -> Iterator[str]:
    """One pattern a file, and few for all segments: DVC tries each pattern on each file."""
    segments: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for path in paths:
        folder, _, name = path.rpartition("/")
        number, _, suffix = name.partition(".")
        if folder in _SEGMENTED and number.isdecimal() and name == f"{int(number):04d}.{suffix}":
            segments[folder, suffix].add(int(number))
        else:
            yield _escaped(path)
    for (folder, suffix), numbers in sorted(segments.items()):
        first_missing = next(number for number in itertools.count(1) if number not in numbers)
        later = [f"{number:04d}" for number in sorted(numbers) if number > first_missing]
        for name in [*_up_to(first_missing - 1), *later]:
            yield f"{folder}/{name}.{suffix}"


def _up_to(last: int) -> Iterator[str]:
    """Patterns for the numbers from 0 to `last` as segments are named."""
    digits = f"{last:04d}"
    yield from ("?" * width for width in range(4, len(digits)))
    yield digits
    for place, digit in enumerate(digits):
        if digit != "0":
            yield f"{digits[:place]}[0-{int(digit) - 1}]{'?' * (len(digits) - place - 1)}"


def _escaped(path: str) -> str:
    return _SPECIAL.sub(r"\\\1", path)
