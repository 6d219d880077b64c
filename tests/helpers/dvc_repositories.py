"""Real DVC repositories in real git repositories, and DVC as its users call it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from recorder.bundle.files import FileDigest, digest_file
from recorder.bundle.manifest import bundle_files
from recorder.tracking.bundle_tracker import BundleTracker
from recorder.tracking.dvc_repository import DvcRepository


def isolate_dvc(folder: Path) -> None:
    """Keep DVC's databases and settings of this user out of the tests, in this process and those it starts."""
    os.environ |= {
        "DVC_SITE_CACHE_DIR": str(folder / "site-cache"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "global-config"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "system-config"),
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }


def git(folder: Path, *arguments: str) -> str:
    """Run git; its output. Raises CalledProcessError."""
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def dvc(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Run `dvc` as a user does; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, check=False, capture_output=True, text=True, timeout=120
    )
    assert fails or done.returncode == 0, f"dvc {arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def new_repository(folder: Path) -> Path:
    """A git and DVC repository with one commit."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    dvc(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=begin")
    return folder


def tracker(repository: Path, bundle: Path, patience: float = 10.0, waits: list[str] | None = None) -> BundleTracker:
    """A tracker of `bundle`."""
    said = waits if waits is not None else []
    return BundleTracker(DvcRepository(repository), bundle, patience, said.append)


def digests(bundle: Path) -> dict[str, FileDigest]:
    """What a recorder knows of the files of a finished bundle, the manifest included."""
    return {name: digest_file(bundle / name) for name in [*bundle_files(bundle), "bundle.json"]}


def cached(repository: Path) -> set[str]:
    """The names of all objects in the cache."""
    folder = repository / ".dvc" / "cache" / "files" / "md5"
    return {path.parent.name + path.name for path in folder.glob("??/*")}
