"""All descriptions of a release, in the order in which they need one another."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from blake3 import blake3

from recorder.release.card import model_card
from recorder.release.citation import citation
from recorder.release.contents import CARD, CITATION, CRATE, CROISSANT, OPENNESS, Contents
from recorder.release.croissant import croissant
from recorder.release.openness import openness_json
from recorder.release.ro_crate import ro_crate


def describe(contents: Contents) -> dict[str, bytes]:
    """The descriptions by path; equal contents give equal bytes. The RO-Crate, made last, lists the others too.

    Raises BundleError for a bundle that is damaged.
    """
    made = {OPENNESS: openness_json(contents), CITATION: citation(contents)}
    if (data := croissant(contents)) is not None:
        made[CROISSANT] = data
    made[CARD] = model_card(contents)
    listed = {path: _digests(content) for path, content in made.items()}
    return made | {CRATE: ro_crate(replace(contents, files={**contents.files, **listed}))}


def _digests(content: bytes) -> dict[str, object]:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"size": len(content), "sha256": sha256, "blake3": blake3(content).hexdigest()}
