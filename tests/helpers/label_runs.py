"""Reads the labels that viewers get."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def decode_runs(coded: bytes) -> NDArray[np.uint8]:
    """The class IDs of all pixels, from the runs that viewers get."""
    parts, at = [], 0
    while at < len(coded):
        class_id, length, shift = coded[at], 0, 0
        while True:
            at += 1
            length |= (coded[at] & 127) << shift
            shift += 7
            if coded[at] < 128:
                break
        at += 1
        parts.append(np.full(length, class_id, np.uint8))
    return np.concatenate(parts)
