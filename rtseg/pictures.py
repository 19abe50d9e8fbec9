"""Picture files: which of them are damaged, which planes they hold, and in which order people expect them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg._cv2 import cv2
from rtseg._planes import PlanesError, with_plain_fourth_sample
from rtseg.frame import Picture

__all__ = ["PlanesError", "decode_picture", "natural_order", "picture_channels", "to_bgr"]

_ALL_PLANES = cv2.IMREAD_COLOR | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
"""As stored, yet turned as EXIF asks, which IMREAD_UNCHANGED would not do. OpenCV 4.11 and later."""


def picture_channels(channels: int) -> int:
    """Channels of the pictures that a network of ``channels`` (1 to 4) is given: grey is mixed of BGR inside of it."""
    return 3 if channels == 1 else channels


def decode_picture(data: bytes, channels: int = 3) -> Picture | None:
    """The picture that a file holds, uint8 (H, W, channels); None where it is damaged, of no known kind or too large.

    Turned as its EXIF tag asks, 16-bit scaled to 8.

    Args:
        data: the content of the file.
        channels: 3: BGR, made of grey, too, without transparency. 4: BGR and the fourth plane that is stored as alpha
            of a PNG or WebP or as fourth sample of an RGB TIFF, whatever it means; never multiplied into the colours.
            2: grey, mixed of colours where it is not stored so, and that plane; what a PNG of grey and alpha holds.

    Raises:
        PlanesError: the file holds no plane beside the colours.
    """
    if not data or _is_cut_jpeg(data):
        return None
    if channels == 3:
        return _decode(data, cv2.IMREAD_COLOR)
    picture = _decode(with_plain_fourth_sample(data), _ALL_PLANES)
    if picture is None:
        return None
    found = picture.shape[2] if picture.ndim == 3 else 1
    if found != 4:
        raise PlanesError.of(found, channels)
    if channels == 4:
        return picture
    grey = cv2.cvtColor(picture, cv2.COLOR_BGRA2GRAY)
    return np.asarray(cv2.merge((grey, picture[..., 3])), dtype=np.uint8)


def _decode(data: bytes, flags: int) -> Picture | None:
    try:
        stored: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if stored is None or stored.dtype not in (np.uint8, np.uint16):
        return None
    # The high byte is what OpenCV itself keeps of a PNG of 16 bits.
    return np.asarray(stored >> 8 if stored.dtype == np.uint16 else stored, dtype=np.uint8)


def to_bgr(picture: Picture) -> Picture:
    """What can be shown of a picture: the colours of four channels, the grey of two, uint8 (H, W, 3)."""
    if picture.shape[2] == 3:
        return picture
    if picture.shape[2] == 4:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR), dtype=np.uint8)
    return np.asarray(cv2.merge((picture[..., 0],) * 3), dtype=np.uint8)


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
