"""Everything of DVC that is not documented, touched here and only here: cache, state, lock, index and remotes.

`tests/recorder/tracking/test_dvc_contract.py` fails on a DVC for which this file is not right.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recorder.bundle.files import write_file
from recorder.capture.urls import without_credentials
from recorder.errors import MachineError, TrackingError, UsageError
from recorder.tracking.objects import OBJECT_MODE, LinkType, link_types, place, probe_link_type
from recorder.tracking.stale_lock import note_holder, take_stale
from recorder.tracking.tree import Entry, is_directory, parse_directory

# What the contract test passes with: the last number may differ.
VERSION = "3.67.1"

Waiting = Callable[[str], None]

_LOCK_PAUSE_SECONDS = 0.05
_BLOCK = 4 << 20


def find_repository(folder: Path) -> Path | None:
    """The root of the DVC repository that holds `folder`, which need not exist; None without one. Imports nothing."""
    for parent in (folder.resolve(), *folder.resolve().parents):
        if (parent / ".dvc").is_dir():
            return parent
        if os.path.ismount(parent):
            return None
    return None


def check_installed() -> None:
    """Raises MachineError when DVC is not there, or is one that this file was not tried with."""
    try:
        found = version("dvc")
    except PackageNotFoundError:
        raise MachineError(f"dvc is not installed: pip install dvc=={VERSION}, or set recorder.dvc=false") from None
    if found.split(".")[:2] != VERSION.split(".")[:2]:
        raise MachineError(
            f"dvc {found} is installed, and its cache is known here for {VERSION}: pip install dvc=={VERSION}, "
            "or set recorder.dvc=false"
        )


@dataclass(frozen=True)
class StageInputs:
    """What a stage depends on: parameters by file and key, and the hash of each other dependency by its path."""

    name: str
    params: dict[str, dict[str, Any]]
    dependencies: dict[str, str]


class DvcRepository:
    """The DVC repository at `root`, for one thread. Errors of DVC's are raised as TrackingError."""

    def __init__(self, root: Path) -> None:
        check_installed()
        from dvc.repo import Repo
        from dvc.scm import NoSCM

        with _dvc_errors():
            self._repo: Any = Repo(str(root))
            # Its own answer: git's folder may be further up (`dvc init --subdir`), or not wanted (`--no-scm`).
            self.has_git = not isinstance(self._repo.scm, NoSCM)
        self.root = Path(self._repo.root_dir)
        self._cache: Any = self._repo.cache.local
        self._folder = Path(self._cache.path)
        # A cache that lies elsewhere may be shared with other repositories.
        self.owns_cache = self._folder.resolve().is_relative_to((self.root / ".dvc").resolve())
        self.autostage = bool(self._repo.config["core"].get("autostage", False))

    def close(self) -> None:
        """Give back DVC's databases."""
        self._repo.close()

    def object_path(self, name: str) -> Path:
        """Where the cache keeps, or would keep, the object `name`."""
        return Path(self._cache.oid_to_path(name))

    def link_type(self, source: Path) -> LinkType:
        """How a file beside `source` gets into the cache here: the first of DVC's `cache.type` that works.

        Without that setting reflink, then hard link, then copy are tried.
        """
        return probe_link_type(source, self._folder, link_types(self._repo.config["cache"].get("type")))

    def add(
        self, folder: Path, entries: Mapping[str, Entry], link_type: LinkType, suspect: Collection[str] = ()
    ) -> set[str]:
        """Put the files `entries` below `folder` into the cache; the names of the objects that were not there.

        An object that is there is left alone, unless its size is wrong or it is `suspect`: then it is replaced. Raises
        OSError; FileNotFoundError for a file that is gone.
        """
        placed = set()
        for path, entry in entries.items():
            target = self.object_path(entry.md5)
            if entry.md5 in suspect or not _is_whole(target, entry.size):
                self._cache.makedirs(str(target.parent))
                place(folder / path, target, link_type)
                placed.add(entry.md5)
        return placed

    def seed(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        """Tell DVC's state the MD5 of files, so that it does not read them. A file that is gone is passed over."""
        from dvc_data.fsutils import _localfs_info
        from dvc_data.hashfile.hash_info import HashInfo

        items = []
        for path, entry in entries.items():
            try:
                info = _localfs_info(str(folder / path))
            except FileNotFoundError:
                continue
            items.append((str(folder / path), HashInfo("md5", entry.md5), info))
        with _dvc_errors():
            self._repo.state.save_many(items, self._repo.fs)

    def add_directory(self, name: str, serialised: bytes) -> bool:
        """Put the object of a directory into the cache; whether it was not there. Raises RecordingError and OSError."""
        target = self.object_path(name)
        if _is_whole(target, len(serialised)):
            return False
        self._cache.makedirs(str(target.parent))
        write_file(target, serialised)
        target.chmod(OBJECT_MODE)
        return True

    def read_directory(self, name: str) -> dict[str, str] | None:
        """Path and MD5 of each file of a directory's object; None when the cache does not have it whole."""
        try:
            return parse_directory(self.object_path(name).read_bytes())
        except (OSError, ValueError):
            return None

    def remove(self, name: str) -> None:
        """Remove an object from the cache."""
        self.object_path(name).unlink(missing_ok=True)

    def named_objects(self) -> set[str]:
        """Every object that a `.dvc` or `dvc.lock` file of the working tree names. Never asks a remote."""
        named: set[str] = set()
        with _dvc_errors():
            self._repo._reset()
            for out in self._repo.index.outs:
                if not out.use_cache or not out.hash_info or not (name := out.hash_info.value):
                    continue
                named.add(name)
                if is_directory(name):
                    named.update((self.read_directory(name) or {}).values())
        return named

    def stage_inputs(self, address: str) -> StageInputs:
        """What DVC will lock for the stage that it calls `address` and runs in the current folder, as files are now.

        Raises UsageError when there is no such stage, or a file of it cannot be read.
        """
        from dvc.dependency.param import ParamsDependency

        # The address is seen from the folder in which DVC was called, which may be another one.
        name, here = address.rpartition(":")[2], Path.cwd().resolve()
        try:
            with _dvc_errors():
                named = [stage for stage in self._repo.index.stages if getattr(stage, "name", None) == name]
                (stage,) = [stage for stage in named if Path(stage.wdir).resolve() == here]
                params = {
                    dep.def_path: dict(dep.read_params()) for dep in stage.deps if isinstance(dep, ParamsDependency)
                }
                files = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
                for dep in files:
                    dep.save()
        except TrackingError as error:
            raise UsageError(f"what DVC will lock for its stage {address} is not known: {error}") from error
        except ValueError:
            raise UsageError(
                f"DVC has not exactly one stage {name} that runs in {here}, so what it will lock is not known"
            ) from None
        return StageInputs(name, params, {dep.def_path: str(dep.hash_info.value) for dep in files})

    def remotes(self) -> list[str]:
        """The names of the remotes that are configured, sorted."""
        return sorted(self._repo.config["remote"])

    def remote(self, name: str) -> ObjectStore:
        """The objects of the remote `name`. Raises UsageError when there is none, MachineError without its library."""
        if name not in self._repo.config["remote"]:
            known = ", ".join(self.remotes()) or "none"
            raise UsageError(f"DVC has no remote {name!r}; it has: {known}. `dvc remote add {name} URL` adds one")
        from dvc.exceptions import DvcException
        from dvc_objects.fs.errors import AuthError, ConfigError, RemoteMissingDepsError

        try:
            return ObjectStore(f"remote {name}", self._repo.cloud.get_remote_odb(name))
        except RemoteMissingDepsError as error:
            raise MachineError(
                f"the remote {name} needs what is not installed here: pip install 'dvc[{error.protocol}]'"
            ) from None
        except (DvcException, AuthError, ConfigError, ValueError) as error:
            raise UsageError(f"the remote {name} cannot be opened: {str(error).strip().splitlines()[0]}") from None

    def cache(self) -> ObjectStore:
        """The objects of the cache of this machine."""
        return ObjectStore("the cache", self._cache)

    @contextmanager
    def locked(self, patience: float, waiting: Waiting) -> Iterator[None]:
        """Hold DVC's lock. Waits up to `patience` seconds; `waiting` is called once when it has to wait.

        A lock whose holder was killed is taken over. Raises TrackingError when it was not to be had.
        """
        from dvc.lock import make_lock

        folder, hard = self._repo.tmp_dir, self._repo.config["core"].get("hardlink_lock", False)
        path = Path(folder, "lock")
        lock = make_lock(str(path), tmp_dir=folder, hardlink_lock=hard)
        deadline, told = time.monotonic() + patience, False
        while not _try_lock(lock, hard):
            if hard and take_stale(path):
                continue
            if not told:
                waiting(f"waiting for DVC's lock, which {_holder(path)} holds")
                told = True
            if time.monotonic() > deadline:
                mend = f"; when no DVC command runs, delete {path}" if hard else ""
                raise TrackingError(f"{_holder(path)} held DVC's lock for more than {patience:.0f} s{mend}")
            time.sleep(_LOCK_PAUSE_SECONDS)
        try:
            if hard:
                note_holder(path)
            yield
        finally:
            lock.unlock()


def _try_lock(lock: Any, hard: bool) -> bool:
    """One try; the lock that is made of linked files has no other way than three seconds of them."""
    from dvc.lock import LockError

    try:
        lock.lock() if hard else lock._do_lock()
    except LockError:
        return False
    return True


def _holder(path: Path) -> str:
    try:
        number = path.read_text().strip()
    except OSError:
        number = ""
    return f"process {number}" if number.isdecimal() else "another process"


@contextmanager
def _dvc_errors() -> Iterator[None]:
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        reason = str(error).strip().splitlines()
        raise TrackingError(f"DVC: {reason[0] if reason else type(error).__name__}") from error


def _is_whole(path: Path, size: int) -> bool:
    """Whether the object is there with its size, marked as one that DVC need not hash."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    if status.st_size != size:
        return False
    if status.st_mode & 0o777 != OBJECT_MODE:
        path.chmod(OBJECT_MODE)
    return True


class ObjectStore:
    """The objects of one remote or of the cache. Every failure to reach it is a TrackingError. Safe for threads."""

    def __init__(self, title: str, objects: Any) -> None:
        self.title = title
        self._objects = objects
        self.url = without_credentials(str(objects.fs.unstrip_protocol(objects.path)))

    def size(self, name: str) -> int | None:
        """The size of an object in bytes; None when it is not there."""
        with self._errors(name):
            try:
                return int(self._objects.fs.info(self._objects.oid_to_path(name))["size"])
            except FileNotFoundError:
                return None

    def read(self, name: str) -> Iterator[bytes]:
        """The content of an object in blocks of at most 4 MiB; FileNotFoundError when it is not there."""
        with self._errors(name), self._objects.fs.open(self._objects.oid_to_path(name), "rb") as file:
            while block := file.read(_BLOCK):
                yield block

    def upload(self, name: str, source: Path, progress: Callable[[], None]) -> None:
        """Put the file `source` there as the object `name`, whole or not at all; calls `progress` as bytes go."""
        from dvc_objects.fs import localfs
        from fsspec.callbacks import Callback

        class Progress(Callback):
            def call(self, *_arguments: Any, **_options: Any) -> None:
                progress()

            def branched(self, *_arguments: Any, **_options: Any) -> Callback:
                return Progress()

        with self._errors(name):
            self._objects.add(str(source), localfs, name, check_exists=False, callback=Progress())

    def names(self) -> Iterator[str]:
        """The names of all objects."""
        with self._errors("its list"):
            yield from self._objects.all()

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Remotes raise whatever their libraries do."""
        try:
            yield
        except (FileNotFoundError, GeneratorExit, TrackingError):
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            raise TrackingError(f"{self.title}: {what}: {type(error).__name__} {lines[0]}".rstrip()) from error
