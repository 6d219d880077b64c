"""What the ledger keeps of a torn or unreadable record: its bytes as base64, without the credentials in them."""

from __future__ import annotations

import base64
from typing import Any

from recorder.ledger import events

# The events whose field `base64` holds such bytes.
TORN = (events.SPOOL_TORN, events.SEGMENT_TORN)


def torn_fields(data: bytes, most: int | None = None) -> dict[str, Any]:
    """The size of `data` and the first `most` of its bytes, all without a limit, as fields of an event.

    Credentials are masked as they are in a line of a log, before the rest is cut off. Of one whose end the kill tore
    away only what still looks like it is: half a token is kept.
    """
    from recorder.release.secrets.masking import mask_text

    text = data.decode(errors="surrogateescape")
    masked = mask_text(text).encode(errors="surrogateescape")
    return {"bytes": len(data), "base64": base64.b64encode(masked[:most]).decode()}
