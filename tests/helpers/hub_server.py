"""A stand-in for the Hub on loopback: what huggingface_hub asks of it to publish, and what readers ask to fetch."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlparse

from helpers.file_servers import Faults, Handler, serving

TOKEN = "hub-token-of-the-tests"
_LARGE = (".safetensors", ".parquet", ".gz")


@dataclass
class Repository:
    """Branches by name, each a commit id; commits by id, each its files by path; whether a file is a large one."""

    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    large: set[str] = field(default_factory=set)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        content = json.dumps([len(self.order), branch, sorted(files)]).encode()
        name = hashlib.sha1(content).hexdigest()
        self.commits[name] = files
        self.order.append(name)
        self.branches[branch] = name
        return name

    def files(self, branch: str) -> dict[str, bytes]:
        return self.commits[self.branches[branch]]


@dataclass
class Hub:
    """What the stand-in holds, and what it is to do wrong."""

    faults: Faults = field(default_factory=Faults)
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    refuse_commits: int | None = None
    token: str = TOKEN
    # How many entries of a tree are on a page, and the server to which the link to the next one leads.
    page: int = 1000
    next_page_at: str | None = None


@contextmanager
def hub_server() -> Iterator[tuple[str, Hub]]:
    """The address of a Hub without repositories, and what it holds."""
    known = Hub()

    class Stand(_Stand):
        hub = known
        faults = known.faults

    with serving(Stand) as address:
        yield address, known


class _Stand(Handler):
    hub: Hub

    def do_GET(self) -> None:  # noqa: N802
        path = unquote(urlparse(self.path).path)
        if found := re.fullmatch(r"/(.+?/.+?)/resolve/([^/]+)/(.+)", path):
            repository = self.hub.repositories.get(found[1])
            known = repository is not None and found[2] in repository.branches
            self.send_file(found[3], repository.files(found[2]).get(found[3]) if known and repository else None)
        elif found := re.fullmatch(r"/api/models/(.+?/.+?)/(refs|tree|commits)(?:/([^/]+))?", path):
            repository = self.hub.repositories.get(found[1])
            if repository is None:
                self._refuse(404, "RepoNotFound")
            elif found[2] == "tree" and repository.branches.get(found[3]) not in repository.commits:
                self._refuse(404, "RevisionNotFound")
            elif found[2] == "refs":
                branches = [self._branch(name, commit) for name, commit in repository.branches.items()]
                self._json({"branches": branches, "converts": [], "tags": []})
            elif found[2] == "tree":
                self._tree([self._entry(repository, *item) for item in sorted(repository.files(found[3]).items())])
            else:
                self._json([self._commit(name) for name in reversed(repository.order)])
        else:
            self.answer(404)

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) if "Content-Length" in self.headers else None
        body = self._chunks() if body is None else body
        path = unquote(urlparse(self.path).path)
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(.+?/.+?)/preupload/([^/]+)", path):
            self._json({"files": [self._mode(file["path"]) for file in json.loads(body)["files"]]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._json({"transfer": "basic", "objects": [self._wanted(item) for item in json.loads(body)["objects"]]})
        elif found := re.fullmatch(r"/api/models/(.+?/.+?)/branch/([^/]+)", path):
            repository = self.hub.repositories[found[1]]
            repository.branches[found[2]] = json.loads(body)["startingPoint"]
            self._json({})
        elif found := re.fullmatch(r"/api/models/(.+?/.+?)/commit/([^/]+)", path):
            self._take_commit(self.hub.repositories[found[1]], found[2], body)
        else:
            self.answer(404)

    def do_PUT(self) -> None:  # noqa: N802
        data = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.path.rpartition("/")[2]
        assert hashlib.sha256(data).hexdigest() == name
        self.hub.objects[name] = data
        self.hub.uploads.append(name)
        self.answer(200)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            self.answer(409, json.dumps({"url": f"{self._base()}/{name}", "error": "You already created it"}).encode())
            return
        repository = self.hub.repositories[name] = Repository()
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self._json({"url": f"{self._base()}/{name}"})

    def _take_commit(self, repository: Repository, branch: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        if self.hub.refuse_commits is not None:
            self._refuse(self.hub.refuse_commits, "", "not now")
            return
        if lines[0]["value"].get("parentCommit") not in {None, repository.branches.get(branch)}:
            self._refuse(412, "", "A commit has happened since")
            return
        files = dict(repository.files(branch))
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.hub.objects[value["oid"]]
                repository.large.add(value["path"])
        name = repository.commit(branch, files)
        self._json({"commitUrl": f"{self._base()}/x/y/commit/{name}", "commitOid": name, "success": True})

    def _wanted(self, item: dict[str, Any]) -> dict[str, Any]:
        known = item["oid"] in self.hub.objects
        upload = {"upload": {"href": f"{self._base()}/objects/{item['oid']}", "header": {}}}
        return item if known else item | {"actions": upload}

    def _mode(self, path: str) -> dict[str, Any]:
        return {"path": path, "uploadMode": "lfs" if path.endswith(_LARGE) else "regular", "shouldIgnore": False}

    def _entry(self, repository: Repository, path: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if path in repository.large:
            entry["lfs"] = {"size": len(data), "oid": hashlib.sha256(data).hexdigest(), "pointerSize": 100}
        return entry

    def _branch(self, name: str, commit: str) -> dict[str, Any]:
        return {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}

    def _commit(self, name: str) -> dict[str, Any]:
        return {"id": name, "title": "a commit", "message": "", "authors": [], "date": "2026-11-21T08:00:00.000Z"}

    def _base(self) -> str:
        return f"http://{self.headers['Host']}"

    def _tree(self, entries: list[dict[str, Any]]) -> None:
        """A page of a tree; `cursor` is the number of the first entry."""
        asked = urlparse(self.path)
        first = int(dict(parse_qsl(asked.query)).get("cursor", "0"))
        rest = first + self.hub.page
        base = self.hub.next_page_at or self._base()
        following = f'<{base}{asked.path}?recursive=true&cursor={rest}>; rel="next"' if rest < len(entries) else None
        self.answer(200, json.dumps(entries[first:rest]).encode(), link=following)

    def _json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode())

    def _refuse(self, status: int, code: str, message: str = "refused") -> None:
        data = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.end_headers()
        self.wfile.write(data)

    def _chunks(self) -> bytes:
        """The body of a request that is sent in chunks."""
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data
