"""What the first bytes of an image file say: its kind, size and channels, before anything is decoded.

A decoder allocates what the head asks for, so the head is read first: 47 kB of PNG can ask for gigabytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Head", "jpeg_segments", "read_head", "tiff_tags"]

_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""By colour type; a palette holds colours. Source: PNG (Third Edition), W3C 2025, 11.2.1."""
_PNM_CHANNELS: Final = {b"1": 1, b"2": 1, b"3": 3, b"4": 1, b"5": 1, b"6": 3}
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF markers. Source: ITU-T T.81, table B.1."""
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
_JPEG_SCAN, _JPEG_EXIF = 0xDA, 0xE1
_TIFF_ORDERS: Final = {b"II*\x00": "<", b"MM\x00*": ">", b"II+\x00": "<", b"MM\x00+": ">"}
_TIFF_BIG: Final = (b"II+\x00", b"MM\x00+")
_WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 262, 274, 277
_SEPARATED = 5
_TIFF_NUMBERS: Final = {3: "H", 16: "Q"}
"""By field type, those that are not 4 bytes long."""


@dataclass(frozen=True, slots=True)
class Head:
    """What an image file says of itself."""

    kind: str
    """``png``, ``jpeg``, ``tiff``, ``bmp``, ``webp`` or ``pnm``."""
    height: int
    """As stored, in pixels."""
    width: int
    channels: int
    """As stored: 1 grey, 2 grey and a plane, 3 colours or a palette, 4 colours and a plane."""
    cmyk: bool = False
    """Whether the channels are inks."""
    orientation: int = 1
    """Of a JPEG: what its EXIF tag says, 1 (upright) to 8."""

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width


def read_head(data: bytes) -> Head | None:
    """The head of an image file; None where ``data`` begins like none of a known kind, or ends too early."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data[:4] in _TIFF_ORDERS:
            return _tiff(data)
        if data.startswith(b"BM"):
            return _bmp(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        return _pnm(data)
    except (struct.error, KeyError, IndexError):
        return None


def _png(data: bytes) -> Head:
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    return Head("png", height, width, _PNG_CHANNELS[colour])


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each segment of a JPEG before its first scan: marker, where its content begins, where it ends.

    The last one is that of the scan, or the file ends too early. Source: ITU-T T.81, annex B.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _JPEG_ALONE:
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at + 4, end
        if marker == _JPEG_SCAN:
            return
        at = end


def _jpeg(data: bytes) -> Head | None:
    orientation = 1
    for marker, begin, end in jpeg_segments(data):
        if marker == _JPEG_EXIF and data[begin : begin + 6] == b"Exif\x00\x00":
            tags = tiff_tags(data[begin + 6 : end])
            orientation = tags.get(_ORIENTATION, (0, 1))[1]
        if marker in _JPEG_FRAMES:
            height, width, channels = struct.unpack_from(">HHB", data, begin + 1)
            upright = orientation if 1 <= orientation <= 8 else 1
            return Head("jpeg", height, width, channels, channels == 4, upright)
    return None


def tiff_tags(data: bytes) -> dict[int, tuple[int, int]]:
    """Of the first image of a TIFF: tag -> (where its first value stands, that value); empty where it is damaged.

    Source: TIFF revision 6.0, 1992, section 2; BigTIFF has the same with wider fields.
    """
    order = _TIFF_ORDERS.get(data[:4])
    if order is None:
        return {}
    offset, size, count, entry, value = "Q", 8, "Q", 20, 12
    if data[:4] not in _TIFF_BIG:
        offset, size, count, entry, value = "I", 4, "H", 12, 8
    try:
        (start,) = struct.unpack_from(f"{order}{offset}", data, size)
        if start > len(data):
            return {}
        (entries,) = struct.unpack_from(f"{order}{count}", data, start)
        first = start + struct.calcsize(count)
        found = {}
        for at in range(first, min(first + entry * entries, len(data)), entry):
            tag, kind = struct.unpack_from(f"{order}HH", data, at)
            (number,) = struct.unpack_from(order + _TIFF_NUMBERS.get(kind, "I"), data, at + value)
            found[tag] = (at + value, number)
    except struct.error:
        return {}
    return found


def _tiff(data: bytes) -> Head:
    tags = {tag: value for tag, (_, value) in tiff_tags(data).items()}
    cmyk = tags.get(_PHOTOMETRIC) == _SEPARATED
    return Head("tiff", tags[_HEIGHT], tags[_WIDTH], tags.get(_SAMPLES, 1), cmyk)


def _bmp(data: bytes) -> Head:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:  # the head of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    return Head("bmp", abs(height), abs(width), 4 if bits == 32 else 3)


def _webp(data: bytes) -> Head:
    """Source: WebP container specification, and RFC 6386 (VP8), section 9.1."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        return Head("webp", height, width, 4 if data[20] & 0x10 else 3)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return Head("webp", 1 + (packed >> 14 & 0x3FFF), 1 + (packed & 0x3FFF), 4 if packed >> 28 & 1 else 3)
    width, height = struct.unpack_from("<HH", data, 26)
    return Head("webp", height & 0x3FFF, width & 0x3FFF, {b"VP8 ": 3}[kind])


def _pnm(data: bytes) -> Head | None:
    blank = rb"(?:\s|#[^\n]*\n)+"
    found = re.match(rb"P([1-6])" + blank + rb"(\d{1,9})" + blank + rb"(\d{1,9})\s", data[:4096])
    if found is None:
        return None
    return Head("pnm", int(found[3]), int(found[2]), _PNM_CHANNELS[found[1]])
