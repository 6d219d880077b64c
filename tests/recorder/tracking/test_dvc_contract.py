"""What DVC is relied on for. A DVC that fails here must not be installed beside this version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.bundles import finished
from helpers.dvc_repositories import cached, digests, dvc, new_repository, tracker
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import MachineError, UsageError
from recorder.tracking.dvc_repository import DvcRepository, check_installed, find_repository
from recorder.tracking.pointer import pointer_path
from recorder.tracking.tree import DirectoryTree, Entry, object_name

PARTS = st.text(st.characters(blacklist_characters="/", blacklist_categories=["Cs"]), min_size=1, max_size=8)


@given(st.dictionaries(st.lists(PARTS, min_size=1, max_size=3).map(tuple), st.integers(0, 2**128 - 1)))
def test_a_directory_is_listed_and_named_as_dvc_does(files: dict[tuple[str, ...], int]) -> None:
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    ours, theirs = DirectoryTree(), Tree()
    for parts, number in files.items():
        md5 = f"{number:032x}"
        ours.put("/".join(parts), Entry(md5, 1))
        theirs.add(parts, Meta(size=1), HashInfo("md5", md5))
    theirs.digest()
    assert ours.serialised() == theirs.as_bytes()
    assert object_name(ours.serialised()) == theirs.oid


def test_it_leaves_what_dvc_add_leaves(tmp_path: Path, repository: Path) -> None:
    """The same `.dvc` file and the same objects, byte for byte, from digests alone."""
    bundle = finished(repository / "runs")
    tracker(repository, bundle).seal(digests(bundle))
    stock = new_repository(tmp_path / "stock")
    finished(stock / "runs")
    dvc(stock, "add", "--quiet", "runs/demo-1")
    ours, theirs = pointer_path(bundle), stock / "runs" / "demo-1.dvc"
    assert ours.read_bytes() == theirs.read_bytes()
    assert cached(repository) == cached(stock)
    for name in cached(stock):
        path = Path(".dvc/cache/files/md5", name[:2], name[2:])
        assert (repository / path).read_bytes() == (stock / path).read_bytes()
        assert (repository / path).stat().st_mode == (stock / path).stat().st_mode


def test_dvc_believes_it_and_reads_nothing(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = finished(repository / "runs")
    tracker(repository, bundle).seal(digests(bundle))
    from dvc.repo import Repo
    from dvc_data.hashfile import hash as hashing

    read: list[str] = []
    really = hashing.file_md5

    def note(path: str, *arguments: Any, **options: Any) -> str:
        read.append(path)
        return str(really(path, *arguments, **options))

    monkeypatch.setattr(hashing, "file_md5", note)
    with Repo(str(repository)) as repo:
        assert repo.status() == {}
    # The tree's own few lines are hashed in memory.
    assert [path for path in read if not path.startswith("memory://")] == []
    assert read


def test_the_outs_of_dvc_files_tell_what_is_in_use(repository: Path) -> None:
    bundle = finished(repository / "runs")
    tracker(repository, bundle).seal(digests(bundle))
    (repository / "other").write_text("other")
    dvc(repository, "add", "--quiet", "other")
    with_all = {entry.md5 for entry in digests(bundle).values()}
    named = DvcRepository(repository).named_objects()
    out = yaml.safe_load(pointer_path(bundle).read_text())["outs"][0]
    other = yaml.safe_load((repository / "other.dvc").read_text())["outs"][0]
    assert named == {out["md5"], other["md5"], *with_all}


def test_another_dvc_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr("recorder.tracking.dvc_repository.version", lambda name: "4.0.0")
    with pytest.raises(MachineError, match=r"^dvc 4\.0\.0 is installed, and .* pip install dvc==3\.67\.1[^\n]*$"):
        check_installed()


def test_the_repository_is_the_one_around_the_folder(repository: Path, tmp_path: Path) -> None:
    assert find_repository(repository / "runs" / "not-yet") == repository
    assert find_repository(tmp_path) is None


def test_the_inputs_of_a_stage_are_what_dvc_locks(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "params.yaml").write_text("a:\n  b: 1e-05\n  c: [1, 2]\nd: x\n")
    (repository / "other.yaml").write_text("e: {f: 1}\ng: 2\n")
    (repository / "in.txt").write_text("in")
    (repository / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo > out.txt\n    deps: [in.txt]\n    params: [params.yaml: , other.yaml: [e.f]]\n"
        "    outs: [out.txt]\n"
    )
    monkeypatch.chdir(repository)
    ours = DvcRepository(repository)
    inputs = ours.stage_inputs("one")
    dvc(repository, "repro", "--quiet")
    locked = yaml.safe_load((repository / "dvc.lock").read_text())["stages"]["one"]
    assert inputs.dependencies == {"in.txt": locked["deps"][0]["md5"]}
    assert inputs.params == {"params.yaml": {"a": {"b": 1e-05, "c": [1, 2]}, "d": "x"}, "other.yaml": {"e.f": 1}}
    assert locked["params"]["other.yaml"] == inputs.params["other.yaml"]
    assert ours.stage_inputs("../somewhere/dvc.yaml:one") == inputs
    with pytest.raises(UsageError, match=r"^DVC has not exactly one stage two that runs in [^\n]*$"):
        ours.stage_inputs("two")
