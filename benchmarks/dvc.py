"""What tracking in DVC costs beside stock DVC. `python benchmarks/dvc.py [gigabytes [files [checkpoints]]]`.

Everything happens in a temporary folder below the current one, on its file system.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorder.bundle.files import FileDigest, digest_file
from recorder.bundle.manifest import build_manifest, write_manifest
from recorder.tracking.bundle_tracker import BundleTracker
from recorder.tracking.dvc_repository import DvcRepository


def main() -> None:
    """Print the table."""
    # This file has the name of the package that it measures.
    sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
    given = [float(argument) for argument in sys.argv[1:]]
    gigabytes, files, checkpoints = (*given, *(2.0, 20_000, 500)[len(given) :])
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-dvc-") as name:
        folder = Path(name).resolve()
        os.environ |= {"DVC_SITE_CACHE_DIR": str(folder / "site"), "DVC_NO_ANALYTICS": "1"}
        one_checkpoint(folder / "one", int(gigabytes * 1e9))
        many_checkpoints(folder / "many", int(checkpoints))
        many_files(folder / "files", int(files))
        many_runs(folder / "runs")


def one_checkpoint(folder: Path, size: int) -> None:
    """A checkpoint that was just written, by us and by `dvc add`."""
    repository, bundle = new_repository(folder / "ours")
    tracker = new_tracker(repository, bundle)
    digest = write_big(bundle / "checkpoints" / "model.safetensors", size)
    before = bytes_read()
    ours = seconds(lambda: tracker.update({"checkpoints/model.safetensors": digest}))
    from_disk, in_all = (after - earlier for after, earlier in zip(bytes_read(), before, strict=True))
    stock, other = new_repository(folder / "stock")
    (other / "checkpoints").mkdir()
    (bundle / "checkpoints" / "model.safetensors").rename(other / "checkpoints" / "model.safetensors")
    (other / "checkpoints" / "model.safetensors").chmod(0o644)
    empty = seconds(lambda: dvc(stock, "status"))
    added = seconds(lambda: dvc(stock, "add", "--quiet", "runs/demo"))
    print(
        f"checkpoint of {size / 1e9:.1f} GB   ours {ours:.3f} s, {tracker.link_type}, {from_disk} bytes read from disk"
    )
    print(f"                        {in_all} bytes in all files read (lock, database, git), none of the checkpoint's")
    print(
        f"                        dvc add {added:.2f} s ({added / ours:.0f} times), of that starting dvc {empty:.2f} s"
    )


def many_checkpoints(folder: Path, count: int) -> None:
    """The first checkpoints of a run and the last."""
    repository, bundle = new_repository(folder)
    tracker = new_tracker(repository, bundle)
    times = []
    for step in range(count):
        closed = {}
        for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
            closed |= write(bundle, f"checkpoints/step-{step:08d}/{name}", os.urandom(100_000))
        closed |= write(bundle, f"ledger/{step:04d}.jsonl", os.urandom(10_000))
        closed |= write(bundle, f"metrics/{step:04d}.parquet", os.urandom(10_000))
        times.append(seconds(lambda closed=closed: tracker.update(closed)))
    first, last = (1e3 * statistics.median(part) for part in (times[:20], times[-20:]))
    print(f"checkpoints 1 to 20     {first:.1f} ms each; {count - 19} to {count} {last:.1f} ms ({last / first:.2f})")


def many_files(folder: Path, count: int) -> None:
    """A bundle of many files, sealed and tracked."""
    repository, bundle = new_repository(folder)
    tracker = new_tracker(repository, bundle)
    known: dict[str, FileDigest] = {}
    for number in range(count):
        known |= write(bundle, f"logs/{number // 100:04d}/rank-{number}.log", b"%d\n" % number)

    def seal() -> None:
        manifest = build_manifest(bundle, outcome="finished", sealed="", known=known, previous_root=None)
        digest = write_manifest(bundle, manifest)
        recorded = {name: FileDigest(**record) for name, record in manifest["files"].items()}
        tracker.seal(recorded | {"bundle.json": digest})

    print(f"{count} files            sealed and tracked in {seconds(seal):.1f} s")
    print(f"                        then dvc status {seconds(lambda: dvc(repository, 'status')):.1f} s")


def many_runs(folder: Path, runs: int = 10, checkpoints: int = 100) -> None:
    """Runs in one repository: what DVC's status and an update that frees a checkpoint cost as they become more.

    The newest is open while that is measured, and the others are sealed, as they would be.
    """
    repository, _ = new_repository(folder)
    for run in range(1, runs + 1):
        bundle = repository / "runs" / f"run-{run}"
        tracker = new_tracker(repository, bundle)
        closed = {}
        for step in range(checkpoints):
            for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
                closed |= write(bundle, f"checkpoints/step-{step:08d}/{name}", os.urandom(1000))
        tracker.update(closed)
        gone = f"checkpoints/step-{0:08d}"
        freed = seconds(lambda tracker=tracker, gone=gone: tracker.update({}, [gone]))
        for path in (bundle / gone).iterdir():
            path.unlink()
        (bundle / gone).rmdir()
        if run in {1, 2, 5, 10}:
            status = seconds(lambda: dvc(repository, "status"))
            print(
                f"{run:2} runs of {checkpoints}          dvc status {status:.2f} s, freeing a checkpoint {freed:.3f} s"
            )
        left = {path: digest for path, digest in closed.items() if not path.startswith(f"{gone}/")}
        tracker.seal(left | {"run.json": digest_file(bundle / "run.json")})


def new_repository(folder: Path) -> tuple[Path, Path]:
    """A DVC repository and a bundle's folder in it."""
    bundle = folder / "runs" / "demo"
    bundle.mkdir(parents=True)
    (bundle / "run.json").write_text('{"id": "demo"}\n')
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    dvc(folder, "init", "--quiet")
    return folder, bundle


def new_tracker(repository: Path, bundle: Path) -> BundleTracker:
    """A tracker that has done its first update."""
    write(bundle, "run.json", b'{"id": "demo"}\n')
    tracker = BundleTracker(DvcRepository(repository), bundle, 10.0, print)
    tracker.prepare_folder()
    tracker.update({"run.json": digest_file(bundle / "run.json")})
    return tracker


def write(bundle: Path, path: str, data: bytes) -> dict[str, FileDigest]:
    """A closed file and its digests."""
    (bundle / path).parent.mkdir(parents=True, exist_ok=True)
    (bundle / path).write_bytes(data)
    return {path: digest_file(bundle / path)}


def write_big(path: Path, size: int) -> FileDigest:
    """A closed file of `size` bytes; its digests are taken by reading it, which is not timed."""
    path.parent.mkdir(parents=True)
    block = os.urandom(1 << 24)
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest_file(path)


def dvc(folder: Path, *arguments: str) -> None:
    """Run `dvc` as a user does."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def bytes_read() -> tuple[int, int]:
    """The bytes that this process has had from disk, and from files in all (the kernel's own among them)."""
    lines = (line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    counters = {name: int(value) for name, value in lines}
    return counters["read_bytes"], counters["rchar"]


def seconds(action: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
