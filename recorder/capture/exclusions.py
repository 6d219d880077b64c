"""What never goes into a source archive: credentials, private keys, data, and folders that tools fill.

Names are bytes relative to the captured folder, as the file system holds them.
"""

from __future__ import annotations

import re

MAX_FILE_BYTES = 5 * 1024 * 1024

CREDENTIALS = "credentials, by its name"
DATA = "data, by its name"
PRIVATE_KEY = "holds a private key"
LARGE = f"larger than {MAX_FILE_BYTES // 1024**2} MiB"

_CREDENTIAL_FOLDERS = {".ssh", ".aws", ".gnupg", ".kube"}
_DOCKER_LOGIN = [".docker", "config.json"]
_TOOL_FOLDERS = {
    *(b".git", b".hg", b".svn", b".venv", b"venv", b"node_modules", b"__pycache__", b".mypy_cache", b".pytest_cache"),
    *(b".ruff_cache", b".hypothesis", b".tox", b".nox", b".eggs", b".ipynb_checkpoints", b".idea", b".vscode"),
}
_is_credential_file = re.compile(
    r".*\.(env|pem|key|p12|pfx|ppk|jks|keystore|kdbx|kubeconfig|token)|id_(rsa|dsa|(ecdsa|ed25519)(_sk)?)"
    r"|\.(pgpass|pypirc|npmrc|htpasswd|git-credentials|dockercfg|boto|s3cfg|vault-token)|[._]netrc|kubeconfig"
    r"|rclone\.conf|config\.local|credentials(\.(json|ya?ml|toml|ini|csv))?|secrets\.(json|ya?ml|toml|ini)"
    r"|(client_secret|application_default_credentials|.*service[_-]account).*\.json|token|.*_token",
    re.DOTALL,
).fullmatch
_is_data_file = re.compile(
    r".*\.(arrow|bin|ckpt|feather|gguf|h5|hdf5|mmap|npy|npz|onnx|parquet|pickle|pkl|pth?|safetensors|tfrecord)",
    re.DOTALL,
).fullmatch
# A whole header and then the start of a body, real newlines or those of a JSON string: code that only
# names the header is not a key.
_has_private_key = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:\\[rn]|\s)+[A-Za-z0-9+/=:,-]{8}"
).search


def excluded_by_name(name: bytes) -> str | None:
    """Why a file of this name stays out, or None."""
    parts = name.decode("utf-8", "surrogateescape").lower().split("/")
    if _CREDENTIAL_FOLDERS.intersection(parts[:-1]) or any(part.startswith(".env") for part in parts):
        return CREDENTIALS
    if _is_credential_file(parts[-1]) or parts[-2:] == _DOCKER_LOGIN:
        return CREDENTIALS
    return DATA if _is_data_file(parts[-1]) else None


def excluded_by_content(data: bytes) -> str | None:
    """Why a file of this content stays out, or None."""
    if len(data) > MAX_FILE_BYTES:
        return LARGE
    return PRIVATE_KEY if _has_private_key(data) else None


def tool_folder(name: bytes) -> bytes | None:
    """The outermost folder of `name` that a tool fills (caches, environments), or None."""
    parts = name.split(b"/")
    for depth, part in enumerate(parts[:-1], start=1):
        if part in _TOOL_FOLDERS:
            return b"/".join(parts[:depth])
    return None
