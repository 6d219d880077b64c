"""The secrets gate: how fast it reads, what it finds of what was planted, and what it finds where nothing is.

    python benchmarks/secret_scan.py [megabytes] [BUNDLE]

Logs and metrics are those of BUNDLE, again and again up to `megabytes`, or without one are generated to look like a
run's own. Secrets of every kind are planted between the lines, in `planted` rounds with other values each. The last
part is what masking adds to a log line as it enters the record.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from arms.planted import NAMES, samples

from recorder.bundle import layout
from recorder.canonical import utc_text
from recorder.ledger.logs import LogSource, LogWriter
from recorder.release.secrets.gate import scan_file
from recorder.release.secrets.masking import LineMasker
from recorder.release.secrets.names import recorded_names
from recorder.release.secrets.scanner import Scanner

ROUNDS = 10
POLL = 20


def generated_log() -> list[str]:
    """Ten thousand lines as a run prints them, with times, steps, paths and tracebacks."""
    lines = []
    for step in range(10_000):
        now = utc_text(1.79e9 + step / 3)
        if step % 50 == 0:
            lines.append(
                f'{now} stderr   File "/usr/lib/python3.11/site-packages/torch/nn/modules/module.py", line {step}'
            )
        elif step % 97 == 0:
            lines.append(
                f"{now} logging INFO ray._private.worker: connected to 198.51.100.{step % 250}:6379, token auth on"
            )
        else:
            lines.append(
                f"{now} stdout step {step}/10000  loss {4 / (1 + step / 99):.4f}  11,{step % 999:03d} tokens/s  ETA 9 s"
            )
    return lines


def generated_metrics() -> list[str]:
    """Rows as an open segment holds them: numbers and digests."""
    row = {"attempt": 1, "fingerprint": "1ccb2e81a9126dea", "grad_norm": 1 / 7, "order_digest": "0f" * 16, "step": 0}
    return [json.dumps(row | {"step": step, "loss": 4 / (1 + step), "hash": f"{step:064x}"}) for step in range(5000)]


def real_lines(bundle: Path) -> tuple[list[str], list[str]]:
    """The log lines of `bundle`, and its rows of metrics and system metrics as JSON lines."""
    from recorder.bundle.rows import read_rows

    logs = [line for path in sorted(bundle.glob("logs/*/*.log")) for line in path.read_text().splitlines()]
    series = (layout.METRICS, layout.SYSTEM_METRICS)
    return logs, [json.dumps(row) for name in series for row in read_rows(bundle, name)]


def fill(path: Path, lines: list[str], size: int) -> int:
    """Write `lines` again and again until `size` bytes; the bytes written."""
    block = ("\n".join(lines) + "\n").encode()
    with path.open("wb") as file:
        for _ in range(max(1, size // len(block))):
            file.write(block)
        return file.tell()


def scan(path: Path, scanner: Scanner) -> tuple[list[str], float]:
    """Kinds found, and CPU seconds."""
    began = time.process_time()
    kinds = [finding.kind for finding in scan_file(path, path.name, scanner)]
    return kinds, time.process_time() - began


def recall(path: Path, lines: list[str], scanner: Scanner) -> tuple[int, int]:
    """How many of the planted secrets were found, and how many there were."""
    planted = [sample for seed in range(ROUNDS) for sample in samples(seed)]
    filler = itertools.cycle(lines)
    path.write_text("".join(f"{next(filler)}\n{sample.line}\n" for sample in planted))
    found = {(finding.line, finding.kind) for finding in scan_file(path, path.name, scanner)}
    return sum((2 * place, sample.kind) in found for place, sample in enumerate(planted, 1)), len(planted)


def microseconds(work: Callable[[list[str]], None], lines: list[str], batch: int) -> float:
    """CPU microseconds a line, in batches."""
    batches = [lines[start : start + batch] for start in range(0, len(lines), batch)]
    began = time.process_time()
    for some in batches:
        work(some)
    return (time.process_time() - began) / len(lines) * 1e6


def main(megabytes: float, bundle: Path | None) -> None:
    """Print the figures."""
    logs, metrics = real_lines(bundle) if bundle else (generated_log(), generated_metrics())
    scanner = Scanner(NAMES | recorded_names(bundle) if bundle else NAMES)
    bare = Scanner(NAMES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, lines in (("log", logs), ("metrics", metrics)):
            size = fill(folder / title, lines, int(megabytes * 1e6))
            kinds, seconds = scan(folder / title, bare)
            megabytes_read = size / 1e6
            per_megabyte = len(kinds) / megabytes_read
            print(
                f"{title}: {megabytes_read:.2f} MB, {megabytes_read / seconds:.2f} MB/s a core, "
                f"{per_megabyte:.2f} found in vain a MB"
            )
            found, planted = recall(folder / "planted", lines, scanner)
            print(f"{title}: {found} of {planted} planted secrets found, {found / planted:.2%}")
        writer, masker = LogWriter(folder, "logs/0001/driver.log"), LineMasker()
        masker.mask(logs[:100])
        source = LogSource("driver", 0, "stdout")
        some = (logs * (20_000 // len(logs) + 1))[:20_000]
        masked = {size: microseconds(lambda lines: void(masker.mask(lines)), some, size) for size in (1, POLL, 1000)}
        written = microseconds(lambda lines: [writer.append(0.0, source, line) for line in lines] and None, some, POLL)
        print(
            f"a log line: {written:.2f} µs to write; masking adds "
            + ", ".join(f"{cost:.2f} µs ({size} at a time)" for size, cost in masked.items())
        )


def void(lines: list[str]) -> None:
    """Nobody wants them."""
    del lines


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
