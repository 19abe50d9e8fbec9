"""Labels as runs of pixels of one class: next to no work for a browser, which fills each run at once."""

from __future__ import annotations

import numpy as np

from rtseg.frame import Labels

__all__ = ["code_runs"]


def code_runs(labels: Labels) -> bytes:
    """Code ``labels``, uint8 (H, W) of fewer than 2**21 pixels, row by row.

    Returns:
        For each run its class ID, one byte, and its length: 1 to 3 bytes of 7 bits each, the lowest first, with the
        highest bit set in all but the last.
    """
    classes = labels.ravel()
    starts = np.flatnonzero(np.diff(classes, prepend=~classes[:1]))
    lengths = np.diff(starts, append=classes.size)
    is_medium, is_long = lengths >= 1 << 7, lengths >= 1 << 14
    columns = [classes[starts], lengths & 127 | is_medium << 7, lengths >> 7 & 127 | is_long << 7, lengths >> 14]
    used = [np.ones_like(is_long), np.ones_like(is_long), is_medium, is_long]
    return np.stack(columns, axis=1).astype(np.uint8)[np.stack(used, axis=1)].tobytes()
