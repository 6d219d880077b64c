"""Licences by their SPDX ids, and what the formats of a release call them. Nothing here says what a licence means."""

from __future__ import annotations

# What the Model Openness Framework takes as open for code, data or documents; others are not known to be.
OPEN = frozenset(
    {
        *(
            "Apache-2.0",
            "MIT",
            "MIT-0",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "ISC",
            "MPL-2.0",
            "EPL-2.0",
            "0BSD",
            "Unlicense",
        ),
        *("GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "AGPL-3.0-only", "AGPL-3.0-or-later"),
        *("LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "UPL-1.0", "OpenMDW-1.0"),
        *("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0"),
        *("ODC-By-1.0", "ODbL-1.0", "PDDL-1.0"),
    }
)

# Of these, what the Citation File Format 1.2.0 lists; others are named there by their address.
_NEWER_THAN_CFF = frozenset({"CDLA-Permissive-2.0", "OpenMDW-1.0"})

# What the Hugging Face Hub calls by the same id in small letters; any other is `other` with a name there.
_HUB = frozenset(
    {
        *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "epl-2.0", "unlicense", "openmdw-1.0"),
        *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nd-4.0"),
        *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0"),
    }
)

TRANSFORMERS = "Apache-2.0"  # that of the library that runs an exported model


def address(licence: str) -> str:
    """The page of an SPDX id."""
    return f"https://spdx.org/licenses/{licence}"


def for_citation(licence: str | None) -> dict[str, str]:
    """The keys of CITATION.cff that say it."""
    if licence is None:
        return {}
    known = licence in OPEN - _NEWER_THAN_CFF
    return {"license": licence} if known else {"license-url": address(licence)}


def for_hub(licence: str | None) -> dict[str, str]:
    """The keys of a model card's metadata that say it."""
    if licence is None:
        return {"license": "unknown"}
    if licence.lower() in _HUB:
        return {"license": licence.lower()}
    return {"license": "other", "license_name": licence.lower(), "license_link": address(licence)}
