"""The container a process runs in, as far as it can be known from inside; null where it cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.capture.urls import without_credentials

# Nothing inside a container knows the digest of its image unless whoever started it passes it on, by custom in these.
_DIGEST_VARIABLES = ("CONTAINER_IMAGE_DIGEST", "IMAGE_DIGEST", "DOCKER_IMAGE_DIGEST")
_IMAGE_VARIABLES = (
    "CONTAINER_IMAGE",
    "DOCKER_IMAGE",
    "SLURM_CONTAINER_IMAGE",
    "APPTAINER_CONTAINER",
    "SINGULARITY_CONTAINER",
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PODMAN_FIELD = re.compile(r'^(\w+)="(.*)"$', re.MULTILINE)
_TRACES = {
    "kubernetes": ("/kubepods", "/kubelet/pods/"),
    "docker": ("/docker/", "/docker-"),
    "podman": ("/libpod-", "/containers/storage/overlay-containers/"),
    "lxc": ("/lxc/", "/lxc.payload"),
    "containerd": ("/containerd/", "cri-containerd-"),
}


def capture_container(environ: Mapping[str, str], root: Path = Path("/")) -> dict[str, Any]:
    """`kind` of container, `image` name, `image_digest` (what a registry serves it by) and podman's `image_id`.

    `root` is the root of the file system.
    """
    podman = dict(_PODMAN_FIELD.findall(_text(root / "run/.containerenv")))
    images = [environ[name] for name in _IMAGE_VARIABLES if environ.get(name)] + [podman.get("image")]
    image = next(filter(None, images), None)
    stated = " ".join([*(environ.get(name, "") for name in _DIGEST_VARIABLES), image or ""])
    digest = _DIGEST.search(stated)
    return {
        "kind": _kind(environ, root),
        "image": without_credentials(image) if image and "://" in image else image,
        "image_digest": digest[0] if digest else None,
        "image_id": podman.get("imageid") or None,
    }


def _kind(environ: Mapping[str, str], root: Path) -> str | None:
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    if "APPTAINER_NAME" in environ or "SINGULARITY_NAME" in environ:
        return "apptainer"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    places = _text(root / "proc/self/cgroup") + _text(root / "proc/self/mountinfo")
    return next((kind for kind, traces in _TRACES.items() if any(trace in places for trace in traces)), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
