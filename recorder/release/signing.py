"""Signing a release: an OpenSSF model signature over every file, made by the package model-signing.

With a key nothing leaves this machine. With Sigstore an identity is asked for, and the signature is entered in a public
log, both over the network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.bundle.files import recording_errors, temporary_path
from recorder.errors import BundleError, MachineError, RecordingError, UsageError
from recorder.release.manifest import RELEASE, SIGNATURE, FileRecord, record_file
from recorder.release.signature import key_hint, key_pem, load_private_key, parse_signature

# Where the password of an encrypted key is taken from: an argument would be seen in the list of processes.
PASSWORD = "RECORDER_KEY_PASSWORD"


def check_private_key(path: Path) -> None:
    """Raises UsageError when `path` is not a key that can sign; MachineError when model-signing is not there."""
    _signer(path)


def is_signed_with(folder: Path, key: Path | None) -> bool:
    """Whether the signature of the release in `folder` was made with the private key `key`, or with none for None."""
    try:
        signature = parse_signature((folder / SIGNATURE).read_bytes())
    except (OSError, BundleError):
        return False
    if key is None:
        return not signature.has_key
    return signature.key_hint == key_hint(_private_key(key).public_key())


def public_pem(key: Path) -> bytes:
    """The public key, in PEM, that belongs to the private key in the file `key`. Raises UsageError."""
    return key_pem(_private_key(key).public_key())


def sign_release(folder: Path, files: Mapping[str, FileRecord], key: Path | None) -> None:
    """Write the signature of the release in `folder`, whose files are `files` and release.json.

    Signs with the private key in the PEM file `key`, or with Sigstore for None. The stock signer reads every file
    again: raises RecordingError when what it signed is not exactly what `files` says. Also UsageError for a key
    that is none, MachineError where there is no model-signing, or no network for Sigstore.
    """
    from model_signing import hashing

    target = folder / SIGNATURE
    target.unlink(missing_ok=True)
    temporary = temporary_path(folder.with_name(f"{folder.name}.{SIGNATURE}"))
    # Nothing may be left out silently: by default the signer passes over what it takes for git's.
    over_all = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    try:
        with recording_errors(target):
            _signer(key).set_hashing_config(over_all).sign(folder, temporary)
        signed = parse_signature(temporary.read_bytes()).digests()
        expected = {path: record.sha256 for path, record in files.items()} | {
            RELEASE: record_file(folder / RELEASE).sha256
        }
        if differing := sorted(path for path in signed | expected if signed.get(path) != expected.get(path)):
            raise RecordingError(f"{differing[0]} was changed while {folder} was signed: call again")
        with recording_errors(target):
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _signer(key: Path | None) -> Any:
    try:
        from model_signing import signing
    except ImportError:
        raise MachineError("signing needs model-signing: pip install 'run-recorder[release]'") from None
    if key is None:
        return _Sigstore()
    _private_key(key)
    password: Any = _password()
    return signing.Config().use_elliptic_key_signer(private_key=key, password=password)


def _password() -> bytes | None:
    return os.environ[PASSWORD].encode() if PASSWORD in os.environ else None


def _private_key(key: Path) -> Any:
    """The key in a PEM file, for one of the curves that signatures have. Raises UsageError."""
    make = "make one with `openssl ecparam -name prime256v1 -genkey -noout -out KEY`"
    try:
        return load_private_key(key.read_bytes(), _password())
    except OSError as error:
        raise UsageError(f"cannot read the key {key}: {error.strerror}") from None
    except TypeError:
        raise UsageError(f"the key {key} is encrypted, or is not: its password is taken from {PASSWORD}") from None
    except ValueError as error:
        raise UsageError(f"{key} is no private key that can sign, or its password is wrong ({error}): {make}") from None


class _Sigstore:
    """model-signing's configuration for Sigstore, whose failures are one line."""

    def __init__(self) -> None:
        from model_signing import signing

        self._config = signing.Config()

    def set_hashing_config(self, config: Any) -> _Sigstore:
        self._config.set_hashing_config(config)
        return self

    def sign(self, folder: Path, target: Path) -> None:
        try:
            self._config.use_sigstore_signer(use_ambient_credentials=True).sign(folder, target)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise MachineError(
                f"Sigstore could not be used here: {reason}; --key KEY signs without a network"
            ) from error
