import io
import os
import shutil
import tarfile

import pytest
from helpers.sources import LIMIT, contents, paths, reasons

from recorder.canonical import digest
from recorder.capture import selection
from recorder.capture.exclusions import MAX_FILE_BYTES
from recorder.capture.git import Repository
from recorder.capture.source import capture_source
from recorder.errors import UsageError


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
