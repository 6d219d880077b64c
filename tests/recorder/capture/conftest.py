import os
import subprocess
from pathlib import Path

import pytest


class Work:
    """A git work tree that ignores this machine's own git configuration."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root = root
        self._environ = environ
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str | bytes, stdin: bytes = b"") -> bytes:
        return subprocess.run(
            ["git", *arguments], cwd=self.root, env=self._environ, input=stdin, check=True, capture_output=True
        ).stdout

    def write(self, name: str | bytes, data: bytes | str = b"x\n") -> Path:
        path = self.root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=x")
        return self.git("rev-parse", "HEAD").decode().strip()


@pytest.fixture
def git_environ(tmp_path_factory, monkeypatch):
    config = tmp_path_factory.mktemp("git") / "config"
    config.write_text(
        '[user]\nname = n\nemail = e@example.org\n[commit]\ngpgsign = false\n[protocol "file"]\nallow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return dict(os.environ)


@pytest.fixture
def work(tmp_path, git_environ):
    return Work(tmp_path / "work", git_environ)


@pytest.fixture
def new_work(tmp_path, git_environ):
    return lambda name: Work(tmp_path / name, git_environ)


@pytest.fixture
def key_text():
    """What a private key file looks like, made here so that no file holds one."""
    header = "-----{} " + "PRIVATE" + " KEY-----\n"
    return header.format("BEGIN") + "QUJD" * 16 + "\n" + header.format("END")
