"""URLs without the credentials that people put in them."""

from __future__ import annotations

import re

# Up to the last "@" before the path: a password may itself hold "@", "?" or "#".
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)@")
_SCP_PASSWORD = re.compile(r"^([^/:@\s]+):[^/@\s]*@(?=[^/:@\s]+:)")


def without_credentials(url: str) -> str:
    """`url` without user, password, query and fragment. A user name stays for ssh, where it is no secret.

    Queries and fragments go as a whole: signed links carry their secret there under names of their own.
    """
    if "://" not in url:
        return _SCP_PASSWORD.sub(r"\1@", url)
    return re.split(r"[?#]", _USER.sub(_without_user, url), maxsplit=1)[0]


def _without_user(match: re.Match[str]) -> str:
    scheme, user = match[1], match[2].split(":")[0]
    return f"{scheme}://{user}@" if scheme.lower().endswith("ssh") and user else f"{scheme}://"
