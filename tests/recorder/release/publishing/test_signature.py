"""Signatures: ours and the stock command agree on what is right and what is wrong."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.publishing import Keys, make_key

from recorder.errors import BundleError, MachineError, UsageError
from recorder.release.destinations.folder import Folder
from recorder.release.manifest import RELEASE, SIGNATURE, parse_release
from recorder.release.signature import parse_signature
from recorder.release.signing import check_private_key, sign_release
from recorder.release.verify_release import verify_release


def stock_command_accepts(folder: Path, key: Path) -> bool:
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    done = subprocess.run(
        [*command, "--signature", str(folder / SIGNATURE), "--public_key", str(key)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode == 0


def we_accept(folder: Path, key: Path) -> bool:
    report = verify_release(Folder(folder), str(key))
    assert report.ok == report.anchored
    return report.ok


def add_a_file(folder: Path) -> None:
    (folder / "extra.txt").write_text("more")


def change_a_file(folder: Path) -> None:
    (path := folder / "runs/demo-1/run.json").chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")


def remove_a_file(folder: Path) -> None:
    (folder / "runs/demo-1/run.json").unlink()


def change_release(folder: Path) -> None:
    (folder / RELEASE).write_bytes((folder / RELEASE).read_bytes().replace(b"1", b"2", 1))


@pytest.mark.parametrize("change", [add_a_file, change_a_file, remove_a_file, change_release])
def test_the_stock_command_agrees(lab: Path, keys: Keys, change: Callable[[Path], None]) -> None:
    folder = lab / "released"
    assert we_accept(folder, keys.public)
    assert stock_command_accepts(folder, keys.public)
    change(folder)
    assert not we_accept(folder, keys.public)
    assert not stock_command_accepts(folder, keys.public)


def test_another_key_is_named(made: Path, keys: Keys) -> None:
    report = verify_release(Folder(made / "released"), str(keys.other))
    assert [finding.kind for finding in report.findings] == ["signature"]
    assert "another key" in report.findings[0].reason
    assert not stock_command_accepts(made / "released", keys.other)


def test_a_signature_that_was_taken_away_is_missed(lab: Path, keys: Keys) -> None:
    (lab / "released" / SIGNATURE).unlink()
    for anchor in (None, str(keys.public)):
        report = verify_release(Folder(lab / "released"), anchor)
        assert [(finding.file, finding.kind) for finding in report.findings] == [(SIGNATURE, "missing")]


def test_a_release_that_was_made_up_anew_is_not_anchored(lab: Path, keys: Keys) -> None:
    """Everything fits together, but another key signed it."""
    folder = lab / "released"
    release = parse_release((folder / RELEASE).read_bytes(), "here")
    sign_release(folder, release.files, make_key(lab / "thief.pem"))
    assert verify_release(Folder(folder)).ok
    assert not we_accept(folder, keys.public)


def payload_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    bundle = json.loads((folder / SIGNATURE).read_bytes())
    return bundle, json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))


def edited_signature(folder: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    bundle, statement = payload_of(folder)
    change(statement)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(bundle).encode()


def test_an_edited_statement_is_not_what_was_signed(lab: Path, keys: Keys) -> None:
    def rename(statement: dict[str, Any]) -> None:
        statement["subject"][0]["name"] = "another"

    (lab / "released" / SIGNATURE).write_bytes(edited_signature(lab / "released", rename))
    report = verify_release(Folder(lab / "released"), str(keys.public))
    assert "not a valid signature" in report.findings[0].reason


def ignore_more(statement: dict[str, Any]) -> None:
    statement["predicate"]["serialization"]["ignore_paths"].append("runs")


def shards(statement: dict[str, Any]) -> None:
    statement["predicate"]["serialization"]["method"] = "shards"


def leave_one_out(statement: dict[str, Any]) -> None:
    statement["predicate"]["resources"].pop()


def twice(statement: dict[str, Any]) -> None:
    statement["predicate"]["resources"].append(statement["predicate"]["resources"][0])


@pytest.mark.parametrize("change", [ignore_more, shards, leave_one_out, twice])
def test_a_statement_that_leaves_something_out_is_refused(made: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(BundleError, match="signs something else"):
        parse_signature(edited_signature(made / "released", change)).digests()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"dsseEnvelope": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_signature_is_a_line(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"model\.sig is damaged"):
        parse_signature(data)


def test_files_that_the_stock_signer_passes_over_are_signed(tmp_path: Path, keys: Keys, made: Path) -> None:
    """By default it leaves out `.gitignore`; a signature over less than release.json says is not made."""
    digests = parse_signature((made / "released" / SIGNATURE).read_bytes()).digests()
    release = parse_release((made / "released" / RELEASE).read_bytes(), "here")
    assert digests.keys() == {*release.files, RELEASE}
    _, statement = payload_of(made / "released")
    assert statement["predicate"]["serialization"]["ignore_paths"] == [SIGNATURE]


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot read the key"), (b"x", "is no private key"), ("public", "is no private key")]
)
def test_a_key_that_cannot_sign_is_named_before_anything_is_done(
    tmp_path: Path, keys: Keys, content: bytes | str | None, told: str
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(keys.public.read_bytes() if isinstance(content, str) else content)
    with pytest.raises(UsageError, match=told):
        check_private_key(path)


def test_an_encrypted_key_takes_its_password_from_the_environment(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "encrypted.pem"
    command = ["openssl", "ec", "-in", keys.private, "-aes256", "-passout", "pass:open", "-out", path]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(UsageError, match="RECORDER_KEY_PASSWORD"):
        check_private_key(path)
    monkeypatch.setenv("RECORDER_KEY_PASSWORD", "wrong")
    with pytest.raises(UsageError, match="wrong"):
        check_private_key(path)
    monkeypatch.setenv("RECORDER_KEY_PASSWORD", "open")
    check_private_key(path)


def test_sigstore_without_a_network_is_a_line(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_signing import signing

    def fail(self: signing.Config, **_: object) -> signing.Config:
        raise OSError("Failed to refresh TUF metadata\nand more")

    monkeypatch.setattr(signing.Config, "use_sigstore_signer", fail)
    folder = Path(shutil.copytree(made / "released", tmp_path / "released"))
    release = parse_release((folder / RELEASE).read_bytes(), "here")
    with pytest.raises(MachineError, match="Failed to refresh TUF metadata; --key KEY signs without a network"):
        sign_release(folder, release.files, None)
    assert not (folder / SIGNATURE).exists()


def test_a_public_key_that_is_none_is_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pub").write_text("no key")
    with pytest.raises(UsageError, match="is no public key"):
        verify_release(Folder(made / "released"), str(tmp_path / "x.pub"))
    with pytest.raises(UsageError, match="cannot read the public key"):
        verify_release(Folder(made / "released"), "nowhere.pub")
