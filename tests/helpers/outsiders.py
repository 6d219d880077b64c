"""Another person's machine, or as near as one gets on this one: another account, a Python with the reader alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from helpers.commands import REPOSITORY, Finished

# The account that owns nothing, on every Linux.
NOBODY = 65534
_NOT_OF_PYTHON = shutil.ignore_patterns("site-packages", "dist-packages", "test", "idlelib", "__pycache__", "ensurepip")
_EXTRA = re.compile(r"extra\s*==\s*[\"']([\w-]+)[\"']")


class Outsider:
    """Runs commands in `folder` as nobody, with a Python in which `packages` and what they need are all there is.

    `folder` must be one that every account can reach. Skips the test where no other account can be had.
    """

    def __init__(self, folder: Path, *packages: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("running as another account takes root")
        self.home = folder / "home"
        self._python = folder / "python"
        install(self._python, packages)
        self.home.mkdir()
        os.chown(self.home, NOBODY, NOBODY)

    def run(self, *command: str, **environment: str) -> Finished:
        """Run `python` with these arguments, as nobody, in the folder `home`."""
        executable = self._python / "bin" / "python3"
        own = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(self._python / "lib")}
        done = subprocess.run(
            [str(executable), *command],
            cwd=self.home,
            env=own | {"OMP_NUM_THREADS": "1"} | environment,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def recorder(self, *arguments: str, **environment: str) -> Finished:
        """Run `recorder`."""
        return self.run("-m", "recorder.cli.main", *arguments, **environment)


def install(target: Path, packages: Iterable[str]) -> None:
    """A Python of its own in `target`, with these packages, all they need, the reader's code and nothing else."""
    library = target / "lib" / Path(sysconfig.get_path("stdlib")).name
    (target / "bin").mkdir(parents=True)
    _link(Path(sys.executable).resolve(), target / "bin" / "python3")
    shutil.copytree(
        sysconfig.get_path("stdlib"), library, ignore=_NOT_OF_PYTHON, copy_function=_link, ignore_dangling_symlinks=True
    )
    shared = Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("INSTSONAME"))
    if shared.is_file():
        _link(shared.resolve(), target / "lib" / shared.name)
    site = library / "site-packages"
    shutil.copytree(REPOSITORY / "recorder", site / "recorder", ignore=shutil.ignore_patterns("__pycache__"))
    link_packages(site, packages)


def link_packages(site: Path, packages: Iterable[str]) -> None:
    """Put installed packages and all they need into the folder `site`."""
    for name in sorted(_closure(packages)):
        found = distribution(name)
        for file in found.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                _link(Path(str(found.locate_file(file))), site / file)


def _closure(packages: Iterable[str]) -> set[str]:
    """The names of `packages`, and of what they need, without extras."""
    known: set[str] = set()
    waiting = list(packages)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop().lower())
        if name in known:
            continue
        try:
            needed = distribution(name).requires or ()
        except PackageNotFoundError:
            # Of another platform or version of Python.
            continue
        known.add(name)
        waiting += [_name(line) for line in needed if not _EXTRA.search(line)]
    return known


def reader_packages(*extras: str) -> Iterator[str]:
    """What pyproject.toml says that a reader with these extras needs."""
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    yield from map(_name, project["dependencies"])
    for extra in extras:
        yield from map(_name, project["optional-dependencies"][extra])


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return found[0]


def _link(source: str | Path, target: str | Path) -> None:
    """A second name for a file, which costs nothing; a copy on another file system."""
    real = Path(source).resolve()
    try:
        os.link(real, target)
    except OSError:
        shutil.copy(real, target)
