"""One bundle in DVC: its closed files in the cache, its tree, and the `.dvc` file that names it all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from recorder.bundle.files import FileDigest, write_file
from recorder.errors import BundleError, TrackingError
from recorder.tracking.dvc_repository import DvcRepository, Waiting
from recorder.tracking.git_index import GitIndex
from recorder.tracking.open_part import IGNORE, OpenPart
from recorder.tracking.own_objects import OwnObjects
from recorder.tracking.pointer import SUFFIX, Pointer, parse_pointer, pointer_path, read_pointer, write_pointer
from recorder.tracking.tree import DirectoryTree, Entry, is_directory, object_name

# What git does with the folder of the bundles: the data is DVC's, the .dvc files are git's.
_GITIGNORE = f"/*\n!/.gitignore\n!/*{SUFFIX}\n"


@dataclass
class Tracked:
    """What one update did: the files that are new, objects that left the cache, and the name of the whole."""

    entries: dict[str, FileDigest] = field(default_factory=dict)
    freed: set[str] = field(default_factory=set)
    object: str = ""


class BundleTracker:
    """Keeps the `.dvc` file of the bundle in the folder `bundle` up with its closed files.

    An update costs what is new, plus a join of the tree's lines; no file is read, and none is copied where the file
    system can link. With `adds_unlocked`
    an update goes on when DVC's lock is not to be had, and then only adds: it takes nothing out of the cache.
    """

    def __init__(self, repository: DvcRepository, bundle: Path, patience: float, waiting: Waiting) -> None:
        self.bundle = bundle.resolve()
        self.pointer = pointer_path(self.bundle)
        self.adds_unlocked = False
        self._repository = repository
        self._git = GitIndex(repository.root) if repository.has_git else None
        self.patience = patience
        self._waiting = waiting
        self._tree = DirectoryTree()
        self._open_part = OpenPart(self.bundle)
        self._object = ""
        self._own = OwnObjects(self.bundle)
        self._left: set[str] = set()
        self._suspect: set[str] = set()
        self.link_type = repository.link_type(self.bundle / "run.json")
        self._continue_existing()

    def prepare_folder(self) -> str | None:
        """See that git ignores the data and not the `.dvc` file; what a person has to mend, None when nothing.

        A `.gitignore` that is there gets a line; one that is not there is made.
        """
        if self._git is None:
            return None
        ignore = self.bundle.parent / ".gitignore"
        ours = [path for path in (self.bundle, self.bundle.parent / IGNORE) if not self._git.ignores(path)]
        if ours and not ignore.exists():
            write_file(ignore, _GITIGNORE.encode())
        elif ours:
            text = ignore.read_text()
            newline = "" if text.endswith("\n") or not text else "\n"
            write_file(ignore, (f"{text}{newline}" + "".join(f"/{path.name}\n" for path in ours)).encode())
        if self._git.ignores(self.pointer):
            return (
                f"git ignores {self.pointer.name}, so DVC does not see it: let .gitignore keep "
                f"{self.bundle.parent.name}/*{SUFFIX}"
            )
        return None

    def keep(self, name: str) -> None:
        """Leave this object in the cache whatever becomes of its file. From any thread; raises OSError."""
        self._own.keep([name])

    def hide_open_part(self) -> None:
        """Keep DVC from what it does not track yet, as each update does; RecordingError. Call it before the first."""
        self._open_part.hide(list(self._tree))

    def update(
        self, closed: Mapping[str, FileDigest], gone: Collection[str] = (), damaged: Collection[str] = ()
    ) -> Tracked:
        """Forget the files below the paths in `gone`, and track the `closed` ones, by bundle path.

        Of those `gone` that were `damaged` the objects may be too: a `closed` file takes their place. A file that is
        not there any more is passed over. Raises TrackingError when DVC's lock is not to be had, a file has not its
        recorded size, or DVC refuses; OSError and RecordingError when the disk does. What was done so far stays, and
        the same call again does the rest.
        """
        for path in damaged:
            self._suspect |= {entry.md5 for _, entry in self._below(path)}
        return self._track(closed, gone, self.hide_open_part)

    def seal(self, files: Mapping[str, FileDigest]) -> Tracked:
        """Track exactly `files`: the whole sealed bundle. Raises as `update` does."""
        gone = [path for path in self._tree if path not in files]
        known = {path: self._tree.get(path) for path in files}
        new = {path: digests for path, digests in files.items() if known[path] != Entry(digests.md5, digests.size)}
        tracked = self._track(new, gone, self._open_part.show)
        if missing := [path for path in files if path not in self._tree]:
            raise TrackingError(f"{missing[0]} is in the manifest and not there")
        return tracked

    def _track(self, closed: Mapping[str, FileDigest], gone: Collection[str], tell_dvc: Callable[[], None]) -> Tracked:
        wanted = {path: Entry(digests.md5, digests.size) for path, digests in closed.items()}
        entries = {path: entry for path, entry in wanted.items() if self._is_there(path, entry)}
        # Copying, where it has to be, comes before the lock, for which others wait.
        self._add(entries)
        with self._locked() as alone:
            self._add(entries)
            self._repository.seed(self.bundle, entries)
            # What is gone comes first: a checkpoint may have been saved again since.
            for path in gone:
                self._forget(path)
            for path, entry in entries.items():
                self._put(path, entry)
            self._write()
            tell_dvc()
            freed = self._free() if alone else set()
        return Tracked({path: closed[path] for path in entries}, freed, self._object)

    def stage(self, commit_message: str | None) -> None:
        """Stage the `.dvc` file and the folder's `.gitignore` in git, and commit them with a message. TrackingError."""
        if self._git is None:
            raise TrackingError("this DVC repository is not in git")
        ignore = self.bundle.parent / ".gitignore"
        paths = [path for path in (self.pointer, ignore) if path.exists()]
        self._git.stage(*paths)
        if commit_message is not None:
            self._git.commit(commit_message, *paths)

    def stage_in(self, workspace: Path) -> None:
        """Put the `.dvc` file into a temporary copy of the repository too, staged there and not here. TrackingError.

        The experiment that runs there takes it along; the file here stays when the copy goes.
        """
        copy = workspace / self.pointer.relative_to(self._repository.root)
        write_file(copy, self.pointer.read_bytes())
        GitIndex(workspace).stage(copy)

    def files(self) -> dict[str, Entry]:
        """Every tracked file by its bundle path."""
        return {path: entry for path in self._tree if (entry := self._tree.get(path)) is not None}

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold DVC's lock; whether it was to be had. Raises TrackingError when it has to be."""
        with ExitStack() as held:
            try:
                held.enter_context(self._repository.locked(self.patience, self._waiting))
            except TrackingError:
                if not self.adds_unlocked:
                    raise
                yield False
            else:
                yield True

    def _add(self, entries: Mapping[str, Entry]) -> None:
        # What somebody else had put into the cache is not ours to take out again.
        self._own.place(self._repository.add(self.bundle, entries, self.link_type, self._suspect))
        self._suspect -= {entry.md5 for entry in entries.values()}

    def _is_there(self, path: str, entry: Entry) -> bool:
        try:
            size = (self.bundle / path).lstat().st_size
        except FileNotFoundError:
            return False
        if size != entry.size:
            raise TrackingError(f"{path} has {size} bytes and was recorded with {entry.size}: it was changed")
        return True

    def _put(self, path: str, entry: Entry) -> None:
        if (before := self._tree.get(path)) is not None and before != entry:
            self._left.add(before.md5)
        self._tree.put(path, entry)

    def _forget(self, gone: str) -> None:
        for path, entry in self._below(gone):
            self._tree.remove(path)
            self._left.add(entry.md5)

    def _below(self, folder: str) -> list[tuple[str, Entry]]:
        """The tracked files in a folder, or the file of this name."""
        return [(path, entry) for path, entry in self.files().items() if f"{path}/".startswith(f"{folder}/")]

    def _write(self) -> None:
        serialised = self._tree.serialised()
        name = object_name(serialised)
        if name == self._object and self.pointer.exists():
            return
        if self._repository.add_directory(name, serialised):
            self._own.place([name])
        write_pointer(self.pointer, Pointer(name, self._tree.size, len(self._tree)), self.bundle.name)
        if self._object:
            self._left.add(self._object)
        self._object = name

    def _free(self) -> set[str]:
        """Take objects out of the cache that only an earlier state of this bundle named.

        They stay when they are to be kept, when somebody else had put them there, when another `.dvc` or `dvc.lock` of
        the working tree names them, or this bundle's `.dvc` file does in anything that git has, experiments too; and in
        a cache outside of the repository, which others may share.
        """
        candidates = self._own.to_free(self._left) - self._tree.objects() - {self._object}
        self._left = set()
        if not candidates or not self._repository.owns_cache:
            return set()
        candidates -= self._known_to_git()
        if any(not is_directory(name) for name in candidates):
            try:
                candidates -= self._repository.named_objects()
            except TrackingError:
                # Some other `.dvc` file cannot be read: what it names is not known, so nothing goes for now.
                self._left = candidates
                return set()
        for name in candidates:
            self._repository.remove(name)
        self._own.free(candidates)
        return candidates

    def _known_to_git(self) -> set[str]:
        known: set[str] = set()
        for data in self._git.versions(self.pointer) if self._git is not None else ():
            try:
                name = parse_pointer(data, self.pointer.name).object
            except BundleError:
                continue
            known |= {name, *(self._repository.read_directory(name) or {}).values()}
        return known

    def _continue_existing(self) -> None:
        """Take up the tree of an earlier attempt, as far as its files are still there."""
        try:
            pointer = read_pointer(self.pointer)
        except BundleError:
            return
        listed = self._repository.read_directory(pointer.object) if pointer is not None else None
        if pointer is None or listed is None:
            return
        self._object = pointer.object
        for path, md5 in listed.items():
            try:
                self._tree.put(path, Entry(md5, (self.bundle / path).lstat().st_size))
            except FileNotFoundError:
                self._left.add(md5)
