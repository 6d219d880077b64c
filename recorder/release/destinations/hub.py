"""The Hugging Face Hub as a place for releases: `main` has the release, `step-00000100` … a revision a checkpoint.

`checkpoints/step-00000100/model.safetensors` of a release is `model.safetensors` of the revision `step-00000100`, where
`from_pretrained(..., revision="step-00000100")` finds it; reading puts it back. The Hub adds a `.gitattributes` to each
revision, which is no part of a release.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from recorder.bundle import layout
from recorder.capture.urls import without_credentials
from recorder.errors import MachineError, TransferError, UsageError
from recorder.release.destinations.https import hub_endpoint, hub_folder, read_json
from recorder.release.manifest import CHECKPOINTS, FileRecord

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, RepoFile

MAIN = "main"
_OF_THE_HUB = ".gitattributes"
_NAME = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/?")
_MESSAGE = "Publish a recorded run"


def place_of(path: str) -> tuple[str, str]:
    """The revision, and the path in it, where a file of a release is kept on the Hub."""
    folder, _, rest = path.partition("/")
    step, _, name = rest.partition("/")
    return (step, name) if folder == CHECKPOINTS and name and layout.checkpoint_step(step) is not None else (MAIN, path)


def prefix_of(revision: str) -> str | None:
    """What the files of a revision begin with in a release; None for a revision that is no part of one."""
    if revision == MAIN:
        return ""
    return f"{CHECKPOINTS}/{revision}/" if layout.checkpoint_step(revision) is not None else None


class HubFiles:
    """The release in `hf://org/name`, read through the Hub's addresses with nothing but Python.

    A private one needs the token in HF_TOKEN.
    """

    def __init__(self, url: str) -> None:
        named = _NAME.fullmatch(url)
        if named is None:
            raise UsageError(f"{url} names no repository of the Hub: hf://ORGANISATION/NAME")
        self.repository = named[1]
        self.url = f"hf://{self.repository}"
        self._token = os.environ.get("HF_TOKEN")

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The content of a file from `start` on."""
        revision, name = place_of(path)
        return hub_folder(self.repository, revision, self._token).read(name, start)

    def list(self) -> dict[str, int]:
        """The size of every file of `main` and of the checkpoints' revisions."""
        try:
            branches = self._ask(f"{self._interface}/refs")[0]["branches"]
        except FileNotFoundError:
            return {}
        found: dict[str, int] = {}
        try:
            for branch in branches:
                if (prefix := prefix_of(branch["name"])) is not None:
                    found |= {prefix + path: size for path, size in self._tree(branch["name"])}
        except FileNotFoundError:
            raise TransferError(f"{self.url}: a revision went while it was listed: call again") from None
        except (LookupError, TypeError, ValueError) as error:
            raise TransferError(f"{self.url}: its list is not what the Hub answers: {error!r}") from None
        return found

    def _tree(self, revision: str) -> Iterator[tuple[str, int]]:
        address: str | None = f"{self._interface}/tree/{quote(revision, safe='')}?recursive=true"
        while address is not None:
            entries, address = self._ask(address)
            for entry in entries:
                if entry["type"] == "file" and entry["path"] != _OF_THE_HUB:
                    yield str(entry["path"]), int(entry["size"])

    def _ask(self, address: str) -> tuple[Any, str | None]:
        """The Hub's answer, and the address of its next page. The token goes to the Hub alone."""
        answer, following = read_json(self.url, address, self._token)
        if following is not None and not following.startswith(f"{hub_endpoint()}/"):
            raise TransferError(f"{self.url}: its list goes on elsewhere, at {without_credentials(following)}")
        return answer, following

    @property
    def _interface(self) -> str:
        return f"{hub_endpoint()}/api/models/{self.repository}"


class HubRepository(HubFiles):
    """The same for publishing, with huggingface_hub. What is put waits until `flush`, which commits it.

    Large files that the Hub has received stay there when this process is killed, and are not sent again.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            from huggingface_hub import HfApi, get_token
            from huggingface_hub.utils import disable_progress_bars
        except ImportError:
            raise MachineError("hf:// needs huggingface_hub: pip install 'run-recorder[release]'") from None
        disable_progress_bars()
        self._token = get_token()
        self._api = HfApi(endpoint=hub_endpoint(), token=self._token)
        self._heads: dict[str, str] = {}
        self._files: dict[str, RepoFile] = {}
        self._waiting: dict[str, list[CommitOperationAdd]] = defaultdict(list)

    def list(self) -> dict[str, int]:
        """The size of every file of `main` and of the checkpoints' revisions."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._errors("its list"):
            try:
                refs = self._api.list_repo_refs(self.repository)
            except RepositoryNotFoundError:
                return {}
            self._heads = {branch.name: branch.target_commit for branch in refs.branches}
            self._files = {}
            for revision in self._heads:
                if (prefix := prefix_of(revision)) is not None:
                    self._files |= dict(self._list_revision(revision, prefix))
        return {path: int(file.size) for path, file in self._files.items()}

    def sha256(self, path: str) -> str | None:
        """What the Hub addresses a large file by; None for a small one."""
        large = self._files[path].lfs
        return large.sha256 if large is not None else None

    def put(self, path: str, source: Path, record: FileRecord, *, replace: bool = False) -> None:
        """Have the file committed by the next `flush`."""
        from huggingface_hub import CommitOperationAdd

        del record, replace
        revision, name = place_of(path)
        self._waiting[revision].append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(source)))

    def flush(self) -> None:
        """Commit what waits, `main` last. Someone else's commit since `list` is a TransferError."""
        if not self._waiting:
            return
        if not self._heads:
            with self._errors("its repository"):
                self._api.create_repo(self.repository, repo_type="model", exist_ok=True)
        for revision in sorted(self._waiting, key=lambda name: (name == MAIN, name)):
            with self._errors(f"revision {revision}"):
                if revision != MAIN and revision not in self._heads:
                    self._branch(revision)
                done = self._api.create_commit(
                    self.repository,
                    self._waiting[revision],
                    commit_message=_MESSAGE,
                    revision=revision,
                    parent_commit=self._heads.get(revision),
                )
                self._heads[revision] = done.oid
        self._waiting.clear()

    def _list_revision(self, revision: str, prefix: str) -> Iterator[tuple[str, RepoFile]]:
        from huggingface_hub import RepoFile

        for file in self._api.list_repo_tree(self.repository, recursive=True, revision=revision):
            if isinstance(file, RepoFile) and file.path != _OF_THE_HUB:
                yield prefix + file.path, file

    def _branch(self, revision: str) -> None:
        """A revision without files: it begins where the repository did."""
        first = self._api.list_repo_commits(self.repository)[-1].commit_id
        self._api.create_branch(self.repository, branch=revision, revision=first, exist_ok=True)
        self._heads[revision] = first

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """The library raises its own errors and those of the one below it, and warns of data beside a model."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                yield
        except (TransferError, GeneratorExit):
            raise
        except Exception as error:
            status: Any = getattr(getattr(error, "response", None), "status_code", None)
            hint = " (the token is missing, lacks the permission, or was revoked)" if status in {401, 403} else ""
            hint = " (someone else has changed it meanwhile)" if status == 412 else hint
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise TransferError(f"{self.url}: {what}: {reason.strip()}{hint}") from error
