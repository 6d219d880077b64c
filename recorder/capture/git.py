"""What git knows of a folder, asked of the git command. Names are bytes relative to that folder."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recorder.capture.urls import without_credentials

_SUBMODULE = "160000"
# A submodule, a symbolic link, nothing at all.
_NOT_FILES = {_SUBMODULE, "120000", "000000"}
# GIT_DIR and its like (git sets them in hooks) would point at another repository than the folder asked about.
_KEPT_VARIABLES = ("GIT_CONFIG", "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY")
# Every choice that a user's own git config could make otherwise, so that the patch applies anywhere.
_DIFF = (
    *("-c", "diff.suppressBlankEmpty=false", "-c", "diff.autoRefreshIndex=false", "diff", "-O/dev/null"),
    *("--no-ext-diff", "--no-textconv", "--no-relative"),
    *("--no-color", "--no-renames", "--full-index", "--binary", "--ignore-submodules=dirty", "--submodule=short"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0", "--diff-algorithm=myers"),
)
# Keeps a command line far below the system's limit.
_NAMES_PER_CALL = 200


class GitError(Exception):
    """Git is missing, finds no repository, or refused; the message is its own first line."""


@dataclass(frozen=True)
class Change:
    """A tracked file that differs from the commit; `blob` is its committed content, None where there is none."""

    name: bytes
    blob: str | None


class Repository:
    """The part of a git work tree at and below `root`. Every method raises GitError when git fails."""

    def __init__(self, root: Path) -> None:
        if shutil.which("git") is None:
            raise GitError("the git command was not found")
        self._root = root
        self.prefix = self._run("rev-parse", "--show-prefix").removesuffix(b"\n")
        if self.prefix and not self.tracked() and self._answers("check-ignore", "--quiet", "."):
            raise GitError("the repository above this folder ignores it")

    def commit(self) -> str | None:
        """The commit that is checked out, or None before the first."""
        return self._line("rev-parse", "--verify", "--quiet", "HEAD")

    def branch(self) -> str | None:
        """The branch that is checked out, or None on a detached head."""
        return self._line("symbolic-ref", "--quiet", "--short", "HEAD")

    def remote_url(self) -> str | None:
        """Where the branch, or else `origin`, or else the first remote comes from; without credentials."""
        listed = self._run("config", "--null", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote)$", fine=(0, 1))
        settings = dict(entry.decode("utf-8", "replace").partition("\n")[::2] for entry in _split(listed))
        for remote in (settings.get(f"branch.{self.branch()}.remote"), "origin"):
            if url := settings.get(f"remote.{remote}.url"):
                return without_credentials(url)
        return next((without_credentials(url) for key, url in settings.items() if key.startswith("remote.")), None)

    def tracked(self) -> dict[bytes, str | None]:
        """Tracked names; the value is the recorded commit for a submodule and None for a file."""
        found: dict[bytes, str | None] = {}
        for entry in _split(self._run("ls-files", "--stage", "-z")):
            (mode, blob, _stage), name = entry.split(b"\t", 1)[0].split(b" "), entry.split(b"\t", 1)[1]
            found[name] = blob.decode() if mode.decode() == _SUBMODULE else None
        return found

    def untracked(self) -> list[bytes]:
        """Names git neither tracks nor ignores; one that ends in "/" is a repository of its own."""
        return _split(self._run("ls-files", "--others", "--exclude-standard", "-z"))

    def ignored(self) -> list[bytes]:
        """Names git ignores; one that ends in "/" is a folder that is ignored as a whole."""
        return _split(self._run("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"))

    def submodule(self, name: bytes) -> tuple[str | None, bool]:
        """The commit that a submodule has checked out (None: not one that git can read), and whether it is changed."""
        path = self._root / os.fsdecode(name)
        # Without a .git of its own, git would answer for the repository around it.
        if not (path / ".git").exists():
            return None, False
        try:
            module = Repository(path)
            return module.commit(), bool(module._run("status", "--porcelain", "-z"))
        except GitError:
            return None, False

    def changes(self) -> list[Change]:
        """Tracked files that differ from the commit, staged or not. Needs a commit."""
        status = ("status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=dirty")
        found = []
        for entry in _split(self._run(*status, "--", ".")):
            # "u" is an unmerged file: its second stage is the commit's.
            count, mode, blob = (10, 4, 8) if entry.startswith(b"u ") else (8, 3, 6)
            fields = entry.split(b" ", count)
            is_file = fields[mode].decode() not in _NOT_FILES
            found.append(Change(fields[-1].removeprefix(self.prefix), fields[blob].decode() if is_file else None))
        return found

    def blobs(self, names: Iterable[str], limit: int) -> dict[str, bytes | None]:
        """The content of each blob, None for those of more than `limit` bytes."""
        wanted = sorted(names)
        described = self._run("cat-file", "--batch-check=%(objectsize)", stdin=_lines(wanted)).splitlines()
        if not all(line.isdigit() for line in described):
            raise GitError("the repository lacks committed files")
        sizes = dict(zip(wanted, map(int, described), strict=True))
        small = [name for name in wanted if sizes[name] <= limit]
        output = io.BytesIO(self._run("cat-file", "--batch", stdin=_lines(small)))
        contents: dict[str, bytes | None] = dict.fromkeys(wanted)
        for name in small:
            output.readline()
            contents[name] = output.read(sizes[name])
            output.readline()
        return contents

    def patch(self, names: Sequence[bytes], omitted: Sequence[bytes]) -> bytes:
        """The changes of `names` against the commit, to be applied at the top of the repository.

        `omitted` names stay out even where one of `names` has become a folder that holds them.
        """
        without = [b":(exclude,literal)" + name for name in omitted]
        parts = []
        for start in range(0, len(names), _NAMES_PER_CALL):
            wanted = [b":(literal)" + name for name in names[start : start + _NAMES_PER_CALL]]
            parts.append(self._run(*_DIFF, "HEAD", "--", *wanted, *without))
        return b"".join(parts)

    def _line(self, *arguments: str) -> str | None:
        return self._run(*arguments, fine=(0, 1)).decode("utf-8", "replace").removesuffix("\n") or None

    def _answers(self, *arguments: str) -> bool:
        return self._process(arguments, b"").returncode == 0

    def _run(self, *arguments: str | bytes, stdin: bytes = b"", fine: Sequence[int] = (0,)) -> bytes:
        process = self._process(arguments, stdin)
        if process.returncode not in fine:
            lines = process.stderr.decode("utf-8", "replace").strip().splitlines()
            raise GitError(lines[0] if lines else f"git ended with exit code {process.returncode}")
        return process.stdout

    def _process(self, arguments: Sequence[str | bytes], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(_KEPT_VARIABLES)}
        environ |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
        try:
            return subprocess.run(
                ["git", "--no-pager", *arguments],
                cwd=self._root,
                env=environ,
                input=stdin,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise GitError(f"git could not be started: {error.strerror}") from error


def _split(output: bytes) -> list[bytes]:
    return [part for part in output.split(b"\0") if part]


def _lines(names: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()
