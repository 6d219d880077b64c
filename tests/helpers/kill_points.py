"""Ends this process by SIGKILL at its n-th change of the file system, so that a test can try every one of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_watching = True
_CHANGES = (
    *("write", "fsync", "rename", "replace", "link", "unlink", "rmdir", "mkdir", "chmod", "truncate", "ftruncate"),
    "open",
)


def run_until_killed(body: Callable[[], None], at: int | None) -> int | None:
    """Run `body` in a fork that kills itself just before its change number `at`, and in every second write half way.

    The number of changes when it came to its end, None when it was killed. Fails when `body` raised.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run(body, at, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, said
    return int(said)


@contextmanager
def unwatched() -> Iterator[None]:
    """What happens here is done by somebody else: it does not count, and nobody is killed."""
    global _watching
    _watching = False
    try:
        yield
    finally:
        _watching = True


def _run(body: Callable[[], None], at: int | None, pipe: int) -> None:
    import traceback

    count = 0
    write = os.write

    def watched(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if _watching and (name != "open" or arguments[1] & os.O_CREAT):
                count += 1
                if count == at:
                    if name == "write" and count % 2:
                        write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return call

    for name in _CHANGES:
        # A kill, unlike a loss of power, takes nothing that was not synced.
        setattr(os, name, watched(name, getattr(os, name) if name != "fsync" else lambda handle: None))
    try:
        body()
    except BaseException:
        write(pipe, traceback.format_exc().encode())
        os._exit(1)
    write(pipe, str(count).encode())
    os._exit(0)
