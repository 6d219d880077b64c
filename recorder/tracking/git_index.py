"""What git knows of a `.dvc` file, and putting it there: never more than was asked for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from recorder.errors import TrackingError


class GitIndex:
    """The git work tree at `root`, by the git command."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def versions(self, path: Path) -> Iterator[bytes]:
        """The content of `path` as staged and in every commit of a branch, stash or experiment."""
        name = self._relative(path)
        _, listed = self._run("rev-list", "--objects", "--all", "--", name)
        found = (line.split(" ", 1) for line in listed.decode(errors="replace").splitlines())
        committed = [blob for blob, *where in found if where and f"/{where[0]}".endswith(f"/{name}")]
        for version in (f":./{name}", *committed):
            code, data = self._run("cat-file", "blob", version)
            if code == 0:
                yield data

    def ignores(self, path: Path) -> bool:
        """Whether a rule makes git ignore `path`; what git tracks already is not ignored."""
        return self._run("check-ignore", "--quiet", "--", self._relative(path))[0] == 0

    def stage(self, *paths: Path) -> None:
        """Stage these files and nothing else. Raises TrackingError with git's own first line."""
        self._must("add", "--", *(self._relative(path) for path in paths))

    def commit(self, message: str, *paths: Path) -> None:
        """Commit these staged files and nothing else that is staged. Raises TrackingError with git's own first line."""
        names = [self._relative(path) for path in paths]
        if self._run("diff", "--cached", "--quiet", "--", *names)[0] != 0:
            self._must("commit", "--quiet", "--only", f"--message={message}", "--", *names)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _must(self, *arguments: str) -> None:
        code, output = self._run(*arguments)
        if code != 0:
            lines = output.decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
            raise TrackingError(f"git {arguments[0]} failed: {lines[0]}")

    def _run(self, *arguments: str) -> tuple[int, bytes]:
        try:
            done = subprocess.run(
                ["git", "-C", str(self._root), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if arguments[0] in {"add", "commit"} else subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except OSError as error:
            raise TrackingError(f"git cannot be run: {error.strerror}") from None
        return done.returncode, done.stdout
