"""Checking an OpenSSF model signature that was made with a key: needs `cryptography`, and neither a network nor torch.

A signature is a Sigstore bundle around a DSSE envelope around an in-toto statement, which has every file's SHA-256.
The stock command agrees: `model_signing verify key DIR --signature DIR/model.sig --public_key FILE`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.errors import BundleError, MachineError, UsageError
from recorder.release.manifest import SIGNATURE

_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# What a signer may leave out.
_MAY_BE_IGNORED = {SIGNATURE}
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True)
class Signature:
    """A model.sig that was read. Nothing in it is trusted before `check_key`."""

    payload: bytes
    signature: bytes
    key_hint: str | None

    @property
    def has_key(self) -> bool:
        """Whether it was made with a key, and not with a certificate."""
        return self.key_hint is not None

    def digests(self) -> dict[str, str]:
        """The SHA-256 of every signed file. Raises BundleError for a statement that leaves files out, or is none."""
        try:
            return _digests(json.loads(self.payload))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise BundleError(f"{SIGNATURE} signs something else than the files of a release: {error}") from None

    def check_key(self, public_key: Path) -> None:
        """Raises BundleError when the signature was not made with the key that belongs to `public_key`."""
        ec, hashes, exceptions, _ = _cryptography()
        key = load_public_key(public_key)
        if self.key_hint not in {None, "", key_hint(key)}:
            raise BundleError(f"{SIGNATURE} was made with another key than {public_key}")
        algorithm = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}[key.curve.key_size]()
        signed = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(self.payload)} ".encode() + self.payload
        try:
            key.verify(self.signature, signed, ec.ECDSA(algorithm))
        except exceptions.InvalidSignature:
            raise BundleError(f"{SIGNATURE} is not a valid signature of {public_key}: it was edited") from None


def parse_signature(data: bytes) -> Signature:
    """The signature in a model.sig with content `data`. Raises BundleError."""
    try:
        bundle = json.loads(data)
        envelope = bundle["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        if bundle["mediaType"] != _MEDIA_TYPE or envelope["payloadType"] != _PAYLOAD_TYPE:
            raise ValueError("its media type is not that of a model signature")
        key = bundle["verificationMaterial"].get("publicKey")
        hint = None if key is None else str(key.get("hint") or "")
        payload = base64.b64decode(envelope["payload"], validate=True)
        return Signature(payload, base64.b64decode(signature["sig"], validate=True), hint)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{SIGNATURE} is damaged: {error}") from None


def key_hint(key: Any) -> str:
    """What a signature names the public key by: the SHA-256 of its PEM."""
    return hashlib.sha256(key_pem(key)).hexdigest()


def key_pem(key: Any) -> bytes:
    """The PEM of a public key."""
    _, _, _, serialization = _cryptography()
    pem: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem


def load_private_key(pem: bytes, password: bytes | None) -> Any:
    """The elliptic-curve key in `pem`. Raises ValueError for anything else, TypeError when it lacks its password."""
    ec, _, _, serialization = _cryptography()
    key = serialization.load_pem_private_key(pem, password)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise ValueError(f"it is on none of the curves {', '.join(_CURVES)}")
    return key


def load_public_key(path: Path) -> Any:
    """The elliptic-curve key in the PEM file `path`. Raises UsageError, and MachineError without cryptography."""
    ec, _, _, serialization = _cryptography()
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read the public key {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is no public key in PEM: make one with `openssl ec -in KEY -pubout`") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise UsageError(f"{path} is no key on one of the curves {', '.join(_CURVES)}")
    return key


def _digests(statement: dict[str, Any]) -> dict[str, str]:
    if statement["_type"] != _STATEMENT_TYPE or statement["predicateType"] != _PREDICATE_TYPE:
        raise ValueError(f"its predicate is {statement.get('predicateType')!r}")
    (subject,) = statement["subject"]
    predicate = statement["predicate"]
    serialization = predicate["serialization"]
    if serialization["method"] != "files" or serialization["hash_type"] != "sha256":
        raise ValueError("it is not over whole files with SHA-256")
    if ignored := set(serialization.get("ignore_paths", ())) - _MAY_BE_IGNORED:
        raise ValueError(f"it leaves out {', '.join(sorted(ignored))}")
    over_all, found = hashlib.sha256(), {}
    for resource in predicate["resources"]:
        if resource["algorithm"] != "sha256" or resource["name"] in found:
            raise ValueError(f"{resource['name']!r} is there twice, or without SHA-256")
        found[str(resource["name"])] = str(resource["digest"])
        over_all.update(bytes.fromhex(resource["digest"]))
    if subject["digest"]["sha256"] != over_all.hexdigest():
        raise ValueError("its digest is not that of its files")
    return found


def _cryptography() -> tuple[Any, Any, Any, Any]:
    try:
        from cryptography import exceptions
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise MachineError("checking a signature needs cryptography: pip install 'run-recorder[signature]'") from None
    return ec, hashes, exceptions, serialization
