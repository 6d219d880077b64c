"""What a released fork is compared with: the config of its parent, edited as its own is."""

from __future__ import annotations

from typing import Any

from recorder.bundle import layout
from recorder.bundle.reader import Bundle
from recorder.release.replacement import Replacer


def edited_config(parent: Bundle, replacer: Replacer) -> dict[str, Any] | None:
    """The newest config of `parent` with everything replaced; None when none was recorded, or it cannot be edited.

    It is edited as text, like the file in a released bundle, so that what was equal stays equal. Raises BundleError
    when it is damaged.
    """
    import yaml

    path = parent.captured(layout.RESOLVED_CONFIG)
    if path is None or not parent.config:
        return None
    replaced = replacer.replace(path.read_bytes().split(b"\n"))
    try:
        values = yaml.safe_load(b"\n".join(replaced.lines))
    except (ValueError, yaml.YAMLError):
        return None
    return values if isinstance(values, dict) else None
