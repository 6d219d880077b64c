import io
import os
import shutil
import subprocess
import tarfile

import pytest

from recorder.canonical import canonical_json, digest
from recorder.capture import selection
from recorder.capture.exclusions import MAX_FILE_BYTES
from recorder.capture.git import Repository
from recorder.capture.source import capture_source
from recorder.errors import UsageError

LIMIT = 32_000_000


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        return {entry.name: opened.extractfile(entry).read() for entry in opened if entry.isfile()}


def reasons(record) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in record["excluded"]}


def paths(entries) -> list[str]:
    return [entry["path"] for entry in entries]


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


class TestSecrets:
    def test_credentials_and_keys_are_named_but_not_archived(self, work, key_text):
        work.write(".env", "A=1\n")
        work.write("conf/.env.local/values", "A=1\n")
        work.write("deploy/id_rsa", "x\n")
        work.write("notes.txt", key_text)
        work.write("account.json", '{"k": "' + key_text.replace("\n", "\\n") + '"}')
        work.write("scan.py", "HEADER = '" + key_text.split("\n")[0] + "'\n")
        capture = capture_source(work.root, LIMIT)
        assert list(contents(capture.archive)) == ["scan.py"]
        assert reasons(capture.record) == {
            ".env": "credentials, by its name",
            "account.json": "holds a private key",
            "conf/.env.local/values": "credentials, by its name",
            "deploy/id_rsa": "credentials, by its name",
            "notes.txt": "holds a private key",
        }

    def test_patch_leaves_their_hunks_out_and_says_so(self, work, key_text):
        secret = "hunter" + "2"
        work.write(".env", "A=old\n")
        work.write("deleted.env", f"A={secret}\n")
        work.write("was_key.txt", key_text)
        work.write("gone_key.txt", key_text)
        work.write("is_key.txt", "plain\n")
        work.write("train.py", "old\n")
        work.commit()
        work.write(".env", f"A={secret}\n")
        (work.root / "deleted.env").unlink()
        (work.root / "gone_key.txt").unlink()
        work.write("was_key.txt", "plain\n")
        work.write("is_key.txt", key_text)
        work.write("train.py", "new\n")
        capture = capture_source(work.root, LIMIT)
        assert capture.patch.count(b"diff --git") == 1
        assert b"+new" in capture.patch
        assert {entry["path"]: entry["reason"] for entry in capture.record["patch"]["omitted"]} == {
            ".env": "credentials, by its name",
            "deleted.env": "credentials, by its name",
            "gone_key.txt": "its committed content: holds a private key",
            "is_key.txt": "holds a private key",
            "was_key.txt": "its committed content: holds a private key",
        }

    def test_a_file_that_became_a_folder_does_not_carry_credentials_into_the_patch(self, work):
        secret = "hunter" + "2"
        work.write("settings", "old\n")
        work.commit()
        (work.root / "settings").unlink()
        work.write("settings/.env", secret)
        work.git("add", "--all")
        assert secret.encode() not in capture_source(work.root, LIMIT).patch

    def test_large_committed_files_are_not_even_read(self, work):
        work.write("small", "ab")
        work.write("large", "abc")
        work.commit()
        small, large = (work.git("rev-parse", f"HEAD:{name}").decode().strip() for name in ("small", "large"))
        assert Repository(work.root).blobs({small, large}, 2) == {small: b"ab", large: None}

    def test_large_committed_data_stays_out_of_the_patch(self, work):
        work.write("table.csv", b"1\n" * (MAX_FILE_BYTES // 2 + 1))
        work.commit()
        (work.root / "table.csv").unlink()
        capture = capture_source(work.root, LIMIT)
        assert capture.patch == b""
        assert capture.record["patch"]["omitted"] == [
            {"path": "table.csv", "reason": "its committed content: larger than 5 MiB"}
        ]


class TestFiles:
    def test_data_and_links_stay_out(self, work, tmp_path):
        (tmp_path / "outside.py").write_text("outside\n")
        work.write("weights.safetensors")
        work.write("big.txt", bytes(MAX_FILE_BYTES + 1))
        work.write("most.txt", bytes(MAX_FILE_BYTES))
        (work.root / "link.py").symlink_to("../outside.py")
        os.mkfifo(work.root / "pipe")
        record = capture_source(work.root, LIMIT).record
        assert paths(record["files"]) == ["most.txt"]
        assert record["excluded"] == [
            {"path": "big.txt", "reason": "larger than 5 MiB", "size": MAX_FILE_BYTES + 1},
            {"path": "link.py", "reason": "a symbolic link, not followed", "target": "../outside.py"},
            {"path": "weights.safetensors", "reason": "data, by its name", "size": 2},
        ]

    def test_a_tracked_folder_that_became_a_link_is_not_followed(self, work, tmp_path):
        work.write("package/module.py")
        work.commit()
        shutil.rmtree(work.root / "package")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/module.py").write_text("outside\n")
        (work.root / "package").symlink_to(tmp_path / "elsewhere")
        capture = capture_source(work.root, LIMIT)
        assert contents(capture.archive) == {}
        assert reasons(capture.record)["package/module.py"] == "behind a symbolic link"
        assert b"outside" not in capture.patch

    def test_a_tracked_folder_that_became_a_file(self, work):
        work.write("package/module.py")
        work.commit()
        shutil.rmtree(work.root / "package")
        work.write("package", "a file\n")
        capture = capture_source(work.root, LIMIT)
        assert contents(capture.archive) == {"package": b"a file\n"}
        assert reasons(capture.record) == {"package/module.py": "missing from the working tree"}

    def test_over_the_limit_names_the_largest_and_the_key(self, work):
        work.write("large.csv", bytes(3_000_000))
        work.write("small.csv", bytes(1_000_000))
        with pytest.raises(UsageError) as raised:
            capture_source(work.root, 3_999_999)
        message = str(raised.value)
        assert "large.csv (3.0 MB), small.csv (1.0 MB)" in message
        assert "recorder.source_limit_mb" in message
        assert "\n" not in message
        capture_source(work.root, 4_000_000)

    def test_files_that_vanish_or_change_while_being_read(self, work, monkeypatch, tmp_path):
        (tmp_path / "outside").write_text("outside\n")
        work.write("vanishes.py")
        work.write("grows.py", "old\n")
        work.write("becomes_link.py")
        work.commit()
        examine = selection._examine

        def disturb(top, name):
            found = examine(top, name)
            path = work.root / os.fsdecode(name)
            if name == b"vanishes.py":
                path.unlink()
            elif name == b"grows.py":
                path.write_text("grown\n")
            else:
                path.unlink()
                path.symlink_to(tmp_path / "outside")
            return found

        monkeypatch.setattr(selection, "_examine", disturb)
        capture = capture_source(work.root, LIMIT)
        assert contents(capture.archive) == {"grows.py": b"grown\n"}
        assert capture.record["files"][0]["blake3"] == digest(b"grown\n")
        assert reasons(capture.record) == {
            "becomes_link.py": "unreadable",
            "vanishes.py": "missing from the working tree",
        }

    def test_executable_bit_is_kept_and_the_rest_of_the_mode_is_not(self, work):
        work.write("run.sh").chmod(0o777)
        work.write("plain.py").chmod(0o600)
        capture = capture_source(work.root, LIMIT)
        with tarfile.open(fileobj=io.BytesIO(capture.archive)) as archive:
            assert {entry.name: entry.mode for entry in archive} == {"plain.py": 0o644, "run.sh": 0o755}


class TestWithoutGit:
    def test_folder_is_walked(self, tmp_path, key_text):
        root = tmp_path / "project"
        for name in ("train.py", "package/module.py", "runs/1/log", ".env", "python/pyvenv.cfg", "node_modules/x.js"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("x\n")
        (root / "key.txt").write_text(key_text)
        (root / "link").symlink_to("package")
        capture = capture_source(root, LIMIT, [root / "runs"])
        record = capture.record
        assert record["is_repository"] is False
        assert "not a git repository" in record["problem"]
        assert (record["commit"], record["branch"], record["remote_url"], record["dirty"]) == (None, None, None, None)
        assert sorted(contents(capture.archive)) == ["package/module.py", "train.py"]
        assert capture.patch == b""
        assert reasons(record) == {
            ".env": "credentials, by its name",
            "key.txt": "holds a private key",
            "link": "a symbolic link, not followed",
            "node_modules/": "a folder that tools fill",
            "python/": "a folder that tools fill",
            "runs/": "left out by the caller",
        }

    def test_git_is_not_installed(self, work, monkeypatch, tmp_path):
        work.write("train.py")
        work.commit()
        monkeypatch.setenv("PATH", str(tmp_path))
        record = capture_source(work.root, LIMIT).record
        assert record["problem"] == "the git command was not found"
        assert paths(record["files"]) == ["train.py"]
        assert reasons(record) == {".git/": "a folder that tools fill"}

    def test_a_repository_that_git_cannot_read(self, work):
        work.write("train.py", "old\n")
        work.commit()
        work.write("train.py", "new\n")
        shutil.rmtree(work.root / ".git/objects")
        (work.root / ".git/objects").mkdir()
        record = capture_source(work.root, LIMIT).record
        assert record["is_repository"] is False
        assert record["problem"]
        assert paths(record["files"]) == ["train.py"]

    def test_a_repository_that_lacks_a_committed_file(self, work):
        work.write("train.py", "old\n")
        work.commit()
        blob = work.git("rev-parse", "HEAD:train.py").decode().strip()
        (work.root / ".git/objects" / blob[:2] / blob[2:]).unlink()
        work.write("train.py", "new\n")
        record = capture_source(work.root, LIMIT).record
        assert record["problem"] == "the repository lacks committed files"
        assert paths(record["files"]) == ["train.py"]

    def test_a_folder_that_the_repository_around_it_ignores(self, work):
        work.write(".gitignore", "scratch/\n")
        work.write("scratch/train.py")
        work.commit()
        record = capture_source(work.root / "scratch", LIMIT).record
        assert record["problem"] == "the repository above this folder ignores it"
        assert paths(record["files"]) == ["train.py"]

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(UsageError, match="is not a folder"):
            capture_source(tmp_path / "missing", LIMIT)


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
    work.write("touched.py")
    work.write("changed.py", "old\n")
    work.commit()
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
