"""Picture files: which of them are damaged, and in which order people expect them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from rtseg._cv2 import cv2
from rtseg.frame import Picture

__all__ = ["decode_picture", "natural_order"]


def decode_picture(data: bytes) -> Picture | None:
    """The picture that a file holds, BGR, uint8 (H, W, 3); None where it is damaged, of no known kind or too large.

    Turned as its EXIF tag asks, 16-bit scaled to 8, grey as BGR, without transparency.
    """
    if not data or _is_cut_jpeg(data):
        return None
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if picture is None else picture.astype(np.uint8, copy=False)


def natural_order(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorting key: numbers by value, letters without case; the plain text decides between equals."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], str(path)


def _is_cut_jpeg(data: bytes) -> bool:
    """Whether ``data`` is a JPEG without an end: OpenCV decodes one silently and fills up with grey."""
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    # Segments carry their length; a thumbnail in one of them has an end of its own, so they are leapt over.
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"\xda", b""):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) < 0
