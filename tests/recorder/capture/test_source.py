import io
import os
import shutil
import subprocess
import tarfile

import pytest
from helpers.sources import LIMIT, contents, paths, reasons

from recorder.canonical import canonical_json, digest
from recorder.capture.source import capture_source


class TestRepository:
    def test_clean_tree(self, work):
        work.write("train.py", "print()\n")
        commit = work.commit()
        capture = capture_source(work.root, LIMIT)
        record = capture.record
        assert record["is_repository"] is True
        assert record["problem"] is None
        assert (record["commit"], record["branch"], record["dirty"]) == (commit, "main", False)
        assert capture.patch == b""
        assert record["untracked"] == []
        assert record["files"] == [{"path": "train.py", "size": 8, "blake3": digest(b"print()\n"), "executable": False}]
        assert record["archive"] == {"size": len(capture.archive), "blake3": digest(capture.archive)}

    def test_archive_is_the_working_tree_with_changes_and_untracked_files(self, work):
        work.write("changed.py", "old\n")
        work.write("staged.py", "old\n")
        work.write("gone.py")
        work.write(".gitignore", "*.log\nout/\n")
        work.commit()
        work.write("changed.py", "new\n")
        work.write("staged.py", "new\n")
        work.git("add", "staged.py")
        (work.root / "gone.py").unlink()
        work.write("untracked.py", "fresh\n")
        work.write("noise.log")
        work.write("out/result")
        capture = capture_source(work.root, LIMIT)
        assert contents(capture.archive) == {
            ".gitignore": b"*.log\nout/\n",
            "changed.py": b"new\n",
            "staged.py": b"new\n",
            "untracked.py": b"fresh\n",
        }
        assert capture.record["dirty"] is True
        assert capture.record["untracked"] == [
            {"path": "untracked.py", "size": 6, "blake3": digest(b"fresh\n"), "executable": False}
        ]
        assert reasons(capture.record) == {
            "gone.py": "missing from the working tree",
            "noise.log": "ignored by git",
            "out/": "ignored by git",
        }

    def test_patch_turns_the_commit_into_the_working_tree(self, work, new_work):
        work.write("a.py", "1\n2\n3\n")
        work.write("image.png", bytes(range(256)))
        work.write("gone.py")
        work.commit()
        work.write("a.py", "1\n2 changed\n3\n")
        work.write("image.png", bytes(reversed(range(256))))
        work.write("added.py", "added\n")
        work.git("add", "added.py")
        (work.root / "gone.py").unlink()
        # Choices of a user's own that would make a patch nobody else can apply.
        for key, value in {"diff.noprefix": "true", "color.ui": "always", "diff.external": "true"}.items():
            work.git("config", key, value)
        patch = capture_source(work.root, LIMIT).patch
        copy = new_work("copy")
        copy.git("pull", "--quiet", str(work.root), "main")
        copy.git("apply", stdin=patch)
        assert (copy.root / "a.py").read_text() == "1\n2 changed\n3\n"
        assert (copy.root / "image.png").read_bytes() == bytes(reversed(range(256)))
        assert (copy.root / "added.py").read_text() == "added\n"
        assert not (copy.root / "gone.py").exists()

    def test_part_of_a_larger_repository(self, work, new_work):
        work.write("project/train.py", "old\n")
        work.write("elsewhere.py", "old\n")
        work.commit()
        work.write("project/train.py", "new\n")
        work.write("elsewhere.py", "new\n")
        capture = capture_source(work.root / "project", LIMIT)
        assert contents(capture.archive) == {"train.py": b"new\n"}
        assert capture.record["prefix"] == "project/"
        assert b"elsewhere" not in capture.patch
        copy = new_work("copy")
        copy.git("pull", "--quiet", str(work.root), "main")
        copy.git("apply", stdin=capture.patch)
        assert (copy.root / "project/train.py").read_text() == "new\n"

    def test_no_commit_yet(self, work):
        work.write("train.py")
        work.git("add", "train.py")
        capture = capture_source(work.root, LIMIT)
        assert capture.record["is_repository"] is True
        assert (capture.record["commit"], capture.record["branch"]) == (None, "main")
        assert capture.record["dirty"] is True
        assert capture.patch == b""
        assert list(contents(capture.archive)) == ["train.py"]

    def test_unfinished_merge(self, work, new_work):
        work.write("train.py", "base\n")
        work.commit()
        work.git("checkout", "--quiet", "-b", "other")
        work.write("train.py", "theirs\n")
        work.commit()
        work.git("checkout", "--quiet", "main")
        work.write("train.py", "ours\n")
        work.commit()
        with pytest.raises(subprocess.CalledProcessError):
            work.git("merge", "--quiet", "other")
        capture = capture_source(work.root, LIMIT)
        merged = (work.root / "train.py").read_bytes()
        assert b"<<<<<<<" in merged
        assert contents(capture.archive) == {"train.py": merged}
        copy = new_work("copy")
        copy.git("pull", "--quiet", str(work.root), "main")
        copy.git("apply", stdin=capture.patch)
        assert (copy.root / "train.py").read_bytes() == merged

    def test_detached_head(self, work):
        commit = work.commit()
        work.git("checkout", "--quiet", "--detach")
        record = capture_source(work.root, LIMIT).record
        assert (record["commit"], record["branch"]) == (commit, None)

    def test_remote_of_the_branch_without_credentials(self, work):
        password = "pass" + "word"
        work.git("remote", "add", "origin", "https://example.org/origin.git")
        work.git("remote", "add", "mine", f"https://me:{password}@example.org/mine.git?token={password}")
        work.commit()
        assert capture_source(work.root, LIMIT).record["remote_url"] == "https://example.org/origin.git"
        work.git("config", "branch.main.remote", "mine")
        record = capture_source(work.root, LIMIT).record
        assert record["remote_url"] == "https://example.org/mine.git"
        assert password.encode() not in canonical_json(record)

    def test_another_repository_in_the_environment_is_not_asked(self, work, new_work, monkeypatch):
        work.write("train.py")
        commit = work.commit()
        monkeypatch.setenv("GIT_DIR", str(new_work("other").root / ".git"))
        assert capture_source(work.root, LIMIT).record["commit"] == commit

    def test_submodule_is_recorded_by_its_commit(self, work, new_work):
        library = new_work("library")
        library.write("library.py")
        commit = library.commit()
        work.git("submodule", "--quiet", "add", str(library.root), "vendor/library")
        work.commit()
        (work.root / "vendor/library/library.py").write_text("changed\n")
        capture = capture_source(work.root, LIMIT)
        assert capture.record["submodules"] == [
            {"path": "vendor/library", "commit": commit, "checked_out": commit, "dirty": True}
        ]
        assert capture.record["dirty"] is True
        assert list(contents(capture.archive)) == [".gitmodules"]
        assert reasons(capture.record) == {"vendor/library/": "a submodule, recorded by its commit"}
        library_copy = work.root / "vendor/library"
        work.git("-C", str(library_copy), "commit", "--quiet", "--allow-empty", "--message=x")
        moved = work.git("-C", str(library_copy), "rev-parse", "HEAD").strip()
        assert b"\n+Subproject commit " + moved + b"\n" in capture_source(work.root, LIMIT).patch
        work.git("submodule", "--quiet", "deinit", "--force", "vendor/library")
        module = capture_source(work.root, LIMIT).record["submodules"][0]
        assert (module["checked_out"], module["dirty"]) == (None, False)

    def test_untracked_tool_folders_and_inner_repositories_stay_out(self, work, new_work):
        work.write("venv/lib/module.py")
        work.write("package/__pycache__/module.pyc")
        work.write("package/module.py")
        new_work("work/inner").commit()
        record = capture_source(work.root, LIMIT).record
        assert paths(record["files"]) == ["package/module.py"]
        assert reasons(record) == {
            "inner/": "a repository of its own",
            "package/__pycache__/": "a folder that tools fill",
            "venv/": "a folder that tools fill",
        }

    def test_folders_of_the_caller_stay_out(self, work):
        work.write("train.py")
        work.write("runs/1/log", "old\n")
        work.commit()
        work.write("runs/1/log", "new\n")
        work.write("runs/2/log")
        work.write("runs.txt")
        capture = capture_source(work.root, LIMIT, [work.root / "runs", work.root.parent])
        assert paths(capture.record["files"]) == ["runs.txt", "train.py"]
        assert reasons(capture.record) == {"runs/": "left out by the caller"}
        assert b"runs" not in capture.patch

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (b"new\nline.py", "new\nline.py"),
            (b'quote".py', 'quote".py'),
            (b"tab\t :(exclude)*.py", "tab\t :(exclude)*.py"),
            (b":(exclude)*.py", ":(exclude)*.py"),
            (b"back\\slash.py", r"back\\slash.py"),
            (b"latin-\xff.py", r"latin-\xff.py"),
            (b"\\xff.py", r"\\xff.py"),
            ("été.py".encode(), "été.py"),
            (b"-dash.py", "-dash.py"),
        ],
    )
    def test_odd_names(self, work, name, text):
        work.write("plain.py")
        work.write(name, "old\n")
        work.commit()
        work.write(name, "new\n")
        capture = capture_source(work.root, LIMIT)
        assert sorted(paths(capture.record["files"])) == sorted(["plain.py", text])
        assert b"+new" in capture.patch
        canonical_json(capture.record)
        with tarfile.open(fileobj=io.BytesIO(capture.archive), encoding="utf-8", errors="surrogateescape") as archive:
            assert os.fsdecode(name) in archive.getnames()


def test_same_tree_gives_the_same_bytes_at_another_time_and_place(work, tmp_path):
    work.write("b.py", "b\n")
    work.write("a/c.py", "c\n")
    work.commit()
    first = capture_source(work.root, LIMIT)
    copy = tmp_path / "copy"
    shutil.copytree(work.root, copy)
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
    second = capture_source(copy, LIMIT)
    assert first.archive == second.archive
    assert first.archive[4:8] == bytes(4), "gzip's own time"
    assert canonical_json(first.record) == canonical_json(second.record)


def test_nothing_in_the_repository_is_written(work):
    for name in ("touched.py", "changed.py", "changed_back.py"):
        work.write(name, "old\n")
    work.commit()
    work.write("changed_back.py", "new\n")
    work.git("add", "changed_back.py")
    work.write("changed_back.py", "old\n")
    work.write("changed.py", "new\n")
    os.utime(work.root / "touched.py", (1, 1))
    before = {path: path.stat().st_mtime_ns for path in work.root.rglob("*")}
    assert capture_source(work.root, LIMIT).patch.count(b"diff --git") == 1
    assert {path: path.stat().st_mtime_ns for path in work.root.rglob("*")} == before


def test_archive_opens_with_the_tar_command(work, tmp_path):
    work.write("package/" + "long" * 60 + ".py", "x\n")
    capture = capture_source(work.root, LIMIT)
    subprocess.run(["tar", "-xz", "-C", tmp_path], input=capture.archive, check=True)
    assert (tmp_path / "package" / ("long" * 60 + ".py")).read_text() == "x\n"
