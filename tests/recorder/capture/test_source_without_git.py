import shutil

import pytest
from helpers.sources import LIMIT, contents, paths, reasons

from recorder.capture.source import capture_source
from recorder.errors import UsageError


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
