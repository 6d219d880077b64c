"""Re-hashing what a remote or the cache holds of a bundle: DVC itself never does.

Objects are streamed in blocks by a few threads, so memory is bounded by their number and not by the size of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import DigestingHasher, FileDigest
from recorder.bundle.findings import Findings, Kind, Report
from recorder.bundle.manifest import parse_manifest
from recorder.bundle.verify_files import Progress
from recorder.errors import BundleError, TrackingError, UsageError
from recorder.tracking.dvc_repository import DvcRepository, ObjectStore, find_repository
from recorder.tracking.pointer import Pointer, pointer_path, read_pointer
from recorder.tracking.tree import object_name, parse_directory

# Objects that are read at the same time, each in blocks of 4 MiB.
_THREADS = 4


@dataclass(frozen=True)
class TrackedBundle:
    """What a bundle's `.dvc` file names: its object with its content, the MD5 of each path, the manifest's records.

    `records` is empty while the run has no seal.
    """

    path: Path
    pointer: Pointer
    serialised: bytes
    listed: dict[str, str]
    records: dict[str, FileDigest]

    def expected(self, path: str) -> tuple[str, FileDigest | None]:
        """The MD5 of a file and, where the manifest has it, all of its digests."""
        return self.listed[path], self.records.get(path)


def verify_store(path: Path, remote: str | None, progress: Progress | None = None) -> Report:
    """Compare what the DVC remote `remote`, or the cache for None, holds of the bundle in the folder `path`.

    Raises UsageError when the bundle is not tracked or there is no such remote, MachineError without DVC, TrackingError
    when the remote cannot be reached.
    """
    repository = open_repository(path)
    try:
        store = repository.cache() if remote is None else repository.remote(remote)
        return check_store(tracked_bundle(repository, path, [store]), store, repository.named_objects(), progress)
    finally:
        repository.close()


def open_repository(path: Path) -> DvcRepository:
    """The DVC repository that holds the bundle in the folder `path`. Raises UsageError when none does."""
    root = find_repository(path)
    if root is None:
        raise UsageError(f"{path} is in no DVC repository; leave out --remote and --cache to verify the bundle itself")
    return DvcRepository(root)


def tracked_bundle(repository: DvcRepository, path: Path, stores: Iterable[ObjectStore]) -> TrackedBundle:
    """The tracked bundle in the folder `path`; its list is taken from the first of the `stores` that has it whole.

    The manifest is the bundle's own, or that of a store, whichever has the MD5 that the list says. Raises UsageError
    when it is not tracked, TrackingError when no store has its list.
    """
    pointer = read_pointer(pointer_path(path))
    if pointer is None:
        raise UsageError(f"{path.name} is not tracked: there is no {pointer_path(path).name} beside it")
    every = [repository.cache(), *stores]
    serialised = _first_whole(every, pointer.object, lambda data: object_name(data) == pointer.object)
    if serialised is None:
        where = ", ".join(store.title for store in every)
        raise TrackingError(f"the list of files {pointer.object} is missing or damaged in {where}")
    try:
        listed = parse_directory(serialised)
    except ValueError as error:
        raise BundleError(f"{pointer_path(path).name} names {pointer.object}, which is {error}") from None
    return TrackedBundle(path, pointer, serialised, listed, _records(path, listed, every))


def check_store(
    bundle: TrackedBundle, store: ObjectStore, named: set[str] | None, progress: Progress | None = None
) -> Report:
    """Compare what `store` holds with what was recorded; every finding names the path in the bundle.

    `named` are the objects that something in the working tree names: others in the store are counted in a note. None
    leaves that out. Raises TrackingError when the store cannot be reached.
    """
    findings = Findings()
    _compare_lists(bundle, findings)
    paths = sorted(bundle.listed)
    if (fault := object_fault(store, bundle.pointer.object, None)) is not None:
        findings.add(pointer_path(bundle.path).name, *fault)
    done = 0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="recorder-store") as threads:
        for path, fault in zip(
            paths, threads.map(lambda path: object_fault(store, *bundle.expected(path)), paths), strict=True
        ):
            if fault is not None:
                findings.add(path, *fault)
            done += bundle.records[path].size if path in bundle.records else 0
            if progress is not None:
                progress(done, bundle.pointer.size)
    if named is not None and (strange := sum(name not in named for name in store.names())):
        findings.note(f"{strange} objects there are named by no .dvc file of this working tree")
    findings.note(f"{store.title}: {store.url}")
    return Report(
        run=bundle.path.name,
        state="stored",
        root=None,
        anchored=False,
        findings=tuple(findings.items),
        notes=tuple(findings.notes),
        counts={"files": len(paths), "bytes": bundle.pointer.size},
    )


def object_fault(store: ObjectStore, md5: str, recorded: FileDigest | None) -> tuple[Kind, str] | None:
    """What is wrong with one object, as kind and reason; None when it is the recorded one. Raises TrackingError."""
    size = store.size(md5)
    if size is None:
        return "missing", f"{store.title} has not its object {md5}"
    if recorded is not None and size != recorded.size:
        return "digest", f"its object {md5} in {store.title} has {size} bytes instead of {recorded.size}"
    hasher = DigestingHasher()
    try:
        for block in store.read(md5):
            hasher.update(block)
    except FileNotFoundError:
        return "missing", f"{store.title} has not its object {md5}"
    found = hasher.digest()
    if (recorded is not None and found != recorded) or found.md5 != md5.partition(".")[0]:
        return "digest", f"its object {md5} in {store.title} was altered: it has MD5 {found.md5}"
    return None


def _compare_lists(bundle: TrackedBundle, findings: Findings) -> None:
    """The manifest and the list that DVC goes by name the same files."""
    if not bundle.records:
        findings.note("the manifest is not there, or the run is not sealed: objects are checked by MD5 alone")
        return
    for path in sorted(bundle.records.keys() - bundle.listed.keys()):
        findings.add(path, "missing", "the manifest has it, what DVC tracks has not")
    for path, md5 in sorted(bundle.listed.items()):
        if path not in bundle.records:
            findings.add(path, "extra", "DVC tracks it, the manifest has it not")
        elif bundle.records[path].md5 != md5:
            findings.add(path, "digest", f"DVC tracks it with MD5 {md5}, the manifest has {bundle.records[path].md5}")


def _records(path: Path, listed: Mapping[str, str], stores: Iterable[ObjectStore]) -> dict[str, FileDigest]:
    """The digests of every file by the manifest, itself included; empty where no good one is to be had."""
    md5 = listed.get(layout.MANIFEST)
    if md5 is None:
        return {}
    data: bytes | None
    try:
        data = (path / layout.MANIFEST).read_bytes()
    except OSError:
        data = None
    if data is None or _digest(data).md5 != md5:
        data = _first_whole(stores, md5, lambda content: _digest(content).md5 == md5)
    try:
        manifest = parse_manifest(data or b"", layout.MANIFEST)
    except BundleError:
        return {}
    files = {name: FileDigest(**record) for name, record in manifest["files"].items()}
    return files | {layout.MANIFEST: _digest(data or b"")}


def _first_whole(stores: Iterable[ObjectStore], name: str, is_whole: Callable[[bytes], bool]) -> bytes | None:
    """The content of a small object from the first store whose copy is good."""
    for store in stores:
        try:
            data = b"".join(store.read(name))
        except (FileNotFoundError, TrackingError):
            continue
        if is_whole(data):
            return data
    return None


def _digest(data: bytes) -> FileDigest:
    hasher = DigestingHasher()
    hasher.update(data)
    return hasher.digest()
