"""Parsing that several commands share."""

from __future__ import annotations

import re

from rtseg.errors import OptionError

__all__ = ["parse_size"]


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``HxW`` in pixels, e.g. ``384x640``.

    Raises:
        OptionError: the text is not of that form.
    """
    found = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text.strip())
    if found is None:
        raise OptionError(f"{option} wants HEIGHTxWIDTH in pixels, e.g. 384x640; got {text!r}")
    return int(found[1]), int(found[2])
