"""Processes that tests kill: `Child` runs a function of this module in a Python of its own.

A child tells how far it is by a number in a file that both map into memory, so that a test can kill it at any moment
without having asked it anything.
"""

from __future__ import annotations

import atexit
import math
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parents[1]


class Counter:
    """A number that lives as long as its file, whoever is killed."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    def set(self, value: int) -> None:
        self._memory[:] = value.to_bytes(8, "little")

    def get(self) -> int:
        return int.from_bytes(self._memory[:], "little")

    def wait_for(self, value: int, child: Child) -> None:
        """Return as soon as the number is at least `value`; fails when the child ended before."""
        while self.get() < value:
            assert child.process.poll() is None, child.process.communicate()


class Child:
    """A running child; `kill` is SIGKILL."""

    def __init__(self, function: Callable[..., None], *arguments: object, **options: object) -> None:
        command = [sys.executable, "-m", "helpers.children", function.__name__]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )
        # Also after a test that failed before it came to that.
        atexit.register(self.process.kill)

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, self.process.communicate()
        return str(text).rstrip("\n")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def finish(self) -> tuple[str, str]:
        """Its output once it has ended well."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out, err


def write_until_killed(path: str, counter: str) -> None:
    """Write records of all sizes to a spool, and say after each how many writes have returned."""
    from recorder.ledger.spool import SpoolWriter

    writer, progress, number = SpoolWriter(Path(path)), Counter(Path(counter)), 0
    while True:
        number += 1
        writer.write("event", {"number": number, "loss": math.nan, "fill": "x" * (number * 37 % 9000)})
        progress.set(number)


def captured_output(folder: str) -> None:
    """Write to stdout and stderr in every way there is, before, while and after they are captured."""
    import ctypes
    import logging

    from recorder.ledger.spool import SpoolWriter
    from recorder.ledger.streams import StreamCapture

    libc = ctypes.CDLL(None)
    sys.stdout.write("print before\n")
    libc.puts(b"puts before")
    sys.stderr.write("err before\n")
    spool = SpoolWriter(Path(folder) / "rank-0.0.spool")
    streams = StreamCapture(Path(folder), "rank-0.0", spool)
    sys.stdout.write("print\n")
    os.write(1, b"write\n")
    subprocess.run(["sh", "-c", "echo child; echo child err >&2"], check=True)
    libc.puts(b"puts")
    libc.printf(b"printf %d\n", 7)
    sys.stderr.write("err\n")
    logging.getLogger("train").warning("careful")
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    logging.getLogger().error("to the stream handler")
    logging.getLogger().removeHandler(handler)
    os.write(streams.terminal_out, b"to the terminal\n")
    streams.close()
    logging.getLogger("train").warning("not recorded")
    sys.stdout.write("print after\n")
    libc.puts(b"puts after")
    sys.stderr.write("err after\n")


def killed_while_printing(folder: str) -> None:
    """Print without flushing, and die."""
    from recorder.ledger.streams import StreamCapture

    StreamCapture(Path(folder), "rank-0.0")
    sys.stdout.write("first\n")
    sys.stdout.write("second\nunfinished")
    os.kill(os.getpid(), signal.SIGKILL)


def worker_until_killed(folder: str, origin: str, counter: str, rank: str = "0", workers: str = "1") -> None:
    """Record steps with all that goes with them, say after each how many there are, and wait after a thousand."""
    from recorder.worker import WorkerRecorder

    worker = WorkerRecorder(Path(folder), origin, rank=int(rank), workers=int(workers))
    progress = Counter(Path(counter))
    printed = os.open(Path(folder) / f"{origin}.0.out", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for step in range(1, 1001):
        worker.log({"accuracy": 1 / step})
        os.write(printed, b"line %d\n" % step)
        worker.event("note", origin=origin, number=step)
        worker.spool.write("log", {"level": "INFO", "logger": origin, "text": str(step)})
        worker.step(step, loss=1 / step, step_seconds=0.5)
        progress.set(step)
    signal.pause()


def driver_until_killed(folder: str) -> None:
    """Create or resume the run `demo`, say where its workers write, collect without a pause and close segments."""
    import recorder.run as run_module
    from recorder.bundle import layout

    run_module._POLL_SECONDS = 0.0005
    if (Path(folder) / "runs" / "demo" / layout.RUN).exists():
        run = run_module.Run.resume(Path(folder) / "runs" / "demo", spools=Path(folder) / "spools")
    else:
        run = run_module.Run.create(Path(folder) / "runs", run_id="demo", spools=Path(folder) / "spools", name="demo")
    run.begin_attempt()
    say(run.spool_folder)
    while True:
        run.check()
        run.event("driver.note")
        run.writer.close_segments()


def lock_holder(root: str, run_id: str) -> None:
    """Take the lock of a run, say so, and hold it."""
    from recorder.lock import RunLock

    lock = RunLock(Path(root), run_id)
    say("locked")
    signal.pause()
    lock.release()


def say(text: object) -> None:
    """Print for the test, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
