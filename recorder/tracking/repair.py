"""Repairing a bundle: what is damaged or missing is fetched from wherever a copy verifies."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle import layout
from recorder.bundle.files import FileDigest, digest_file, make_read_only, recording_errors, sync_folder
from recorder.bundle.manifest import archived_seals, read_manifest
from recorder.errors import BundleError, TrackingError, UsageError
from recorder.lock import RunLock
from recorder.tracking.dvc_repository import DvcRepository, ObjectStore, Waiting
from recorder.tracking.pointer import pointer_path
from recorder.tracking.store_check import TrackedBundle, object_fault, open_repository, tracked_bundle
from recorder.tracking.tree import Entry

# How long another DVC command is waited for, in seconds.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Repair:
    """One file: what was wrong with it, and where its copy came from; None when no good copy was found."""

    path: str
    wrong: str
    source: str | None


def repair_run(path: Path, remote: str | None, waiting: Waiting) -> tuple[int, list[Repair]]:
    """Repair the bundle in the folder `path` from the remote `remote`, or from all; its number of files, and repairs.

    Nobody else writes the run meanwhile, and no DVC command runs. Raises UsageError while the run is being written,
    when it is not tracked, or went on since it was; TrackingError when DVC's lock is not to be had; and as
    `repair_bundle` does.
    """
    lock = RunLock(path.parent, path.name)
    try:
        repository = open_repository(path)
        try:
            names = [remote] if remote is not None else repository.remotes()
            remotes = [repository.remote(name) for name in names]
            with repository.locked(_PATIENCE, waiting):
                bundle = tracked_bundle(repository, path, remotes)
                _check_not_older(bundle)
                return len(bundle.listed), repair_bundle(repository, bundle, remotes)
        finally:
            repository.close()
    finally:
        lock.release()


def _check_not_older(bundle: TrackedBundle) -> None:
    """Raise UsageError for a bundle that went on since its list was made, which knows nothing of its newest files."""
    listed = {bundle.path / path for path in bundle.listed}
    went_on = any(seal not in listed for seal in archived_seals(bundle.path))
    manifest = bundle.path / layout.MANIFEST
    try:
        if read_manifest(bundle.path) is not None:
            went_on |= digest_file(manifest).md5 != bundle.listed.get(layout.MANIFEST)
    except BundleError:
        # It is damaged, which is what repairing is for.
        pass
    if went_on:
        raise UsageError(
            f"{pointer_path(bundle.path).name} is older than the bundle beside it, which has another seal: nothing was "
            f"repaired; `dvc add` of the bundle tracks it as it is, `dvc checkout` brings back what was tracked"
        )


def repair_bundle(repository: DvcRepository, bundle: TrackedBundle, remotes: Sequence[ObjectStore]) -> list[Repair]:
    """Make every file of the bundle, and its object in the cache, what was recorded.

    Copies are taken from the bundle, the cache and the remotes, in this order, and used only if size and digests are
    right. A damaged file is replaced, never written to: whoever holds it by another link keeps what they had. What the
    list does not name is left alone. Raises RecordingError when the disk refuses.
    """
    cache = repository.cache()
    repairs = []
    if (fault := object_fault(cache, bundle.pointer.object, None)) is not None:
        with recording_errors(repository.object_path(bundle.pointer.object)):
            repository.remove(bundle.pointer.object)
        repository.add_directory(bundle.pointer.object, bundle.serialised)
        repairs.append(Repair(pointer_path(bundle.path).name, fault[1], "a good copy of its list"))
    for path in sorted(bundle.listed):
        md5, recorded = bundle.expected(path)
        file = bundle.path / path
        wrong = _file_fault(file, md5, recorded)
        in_cache = object_fault(cache, md5, recorded)
        if wrong is None and in_cache is None:
            continue
        source = None
        if wrong is None:
            source = "the bundle"
        else:
            stores = [*([cache] if in_cache is None else []), *remotes]
            source = _fetch(file, md5, recorded, stores)
        repairs.append(Repair(path, wrong or (in_cache[1] if in_cache else ""), source))
        if source is not None:
            _into_cache(repository, bundle, path, md5, replace=in_cache is not None)
    return repairs


def _file_fault(file: Path, md5: str, recorded: FileDigest | None) -> str | None:
    if file.is_symlink() or not file.is_file():
        return "it is missing"
    try:
        found = digest_file(file)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if (recorded is not None and found != recorded) or found.md5 != md5:
        return f"it was changed: it has MD5 {found.md5} instead of {md5}"
    return None


def _fetch(file: Path, md5: str, recorded: FileDigest | None, stores: Iterable[ObjectStore]) -> str | None:
    """Replace `file` by the first copy that verifies; the title of the store it came from."""
    for store in stores:
        temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        with recording_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as target:
                    for block in store.read(md5):
                        target.write(block)
                    target.flush()
                    os.fsync(target.fileno())
                if _file_fault(temporary, md5, recorded) is None:
                    make_read_only(temporary)
                    temporary.replace(file)
                    sync_folder(file.parent)
                    return store.title
            except (FileNotFoundError, TrackingError):
                continue
            finally:
                temporary.unlink(missing_ok=True)
    return None


def _into_cache(repository: DvcRepository, bundle: TrackedBundle, path: str, md5: str, replace: bool) -> None:
    """Let the cache have the good file, and DVC know it. Raises RecordingError."""
    folder = bundle.path.resolve()
    with recording_errors(repository.object_path(md5)):
        entry = Entry(md5, (folder / path).stat().st_size)
        if replace:
            repository.remove(md5)
        repository.add(folder, {path: entry}, repository.link_type(folder / path))
        repository.seed(folder, {path: entry})
