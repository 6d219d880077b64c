"""Keys to sign releases with, and releases of the bundles in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recorder.release.destinations.folder import Folder
from recorder.release.destinations.protocol import Destination
from recorder.release.publish import Published, release_runs
from recorder.release.work import Request


@dataclass(frozen=True)
class Keys:
    """A signer's private key, its public key, and the public key of somebody else."""

    private: Path
    public: Path
    other: Path


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


# Opens a place anew.
Open = Callable[[], Destination]
# Runs `recorder` with these arguments.
Recorder = Callable[..., Said]


def make_key(path: Path) -> Path:
    """A new private key at `path`, and beside it the public one, as a lab makes them."""
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path]
    subprocess.run(command, check=True, capture_output=True)
    command = ["openssl", "ec", "-in", path, "-pubout", "-out", path.with_suffix(".pub")]
    subprocess.run(command, check=True, capture_output=True)
    return path


def publish(lab: Path, to: Destination | Path, *names: str, key: Path | None = None, as_is: bool = False) -> Published:
    """Release the runs of these names below `lab`, `demo-1` when there are none."""
    chosen = tuple(lab / "runs" / name for name in names or ("demo-1",))
    destination = Folder(to) if isinstance(to, Path) else to
    return release_runs(Request(lab / "runs", chosen, key=key, as_is=as_is), destination)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class KilledAt:
    """A place at whose file `at // 2` this process is killed: before it is sent when `at` is even, else after it."""

    def __init__(self, place: Destination, at: int) -> None:
        self._place, self._left, self._after = place, at // 2, at % 2
        self.url = place.url

    def __getattr__(self, name: str) -> object:
        return getattr(self._place, name)

    def put(self, *arguments: object, **options: object) -> None:
        self._left -= 1
        if self._left < 0 and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        self._place.put(*arguments, **options)  # type: ignore[arg-type]
        if self._left < 0:
            self._place.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def killed(body: Callable[[], object]) -> bool:
    """Run `body` in a fork; whether it was killed. Fails when it raised."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert status in {0, signal.SIGKILL}
    return status == signal.SIGKILL
