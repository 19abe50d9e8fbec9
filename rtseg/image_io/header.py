"""Read the format, size and channels of an image from the header of its file, without decoding it.

A decoder allocates the memory that the header asks for: a PNG of 47 kB can ask for gigabytes. So check it first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["BIGTIFF", "TIFF_BYTE_ORDERS", "ImageHeader", "jpeg_segments", "read_header", "tiff_tags"]

_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""By colour type; a palette counts as colours. Source: PNG (Third Edition), W3C 2025, 11.2.1."""
_PNM_CHANNELS: Final = {b"1": 1, b"2": 1, b"3": 3, b"4": 1, b"5": 1, b"6": 3}
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF markers. Source: ITU-T T.81, table B.1."""
_JPEG_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers that no length follows."""
_JPEG_SCAN, _JPEG_EXIF = 0xDA, 0xE1
TIFF_BYTE_ORDERS: Final = {b"II*\x00": "<", b"MM\x00*": ">", b"II+\x00": "<", b"MM\x00+": ">"}
BIGTIFF: Final = (b"II+\x00", b"MM\x00+")
_WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 262, 274, 277
"""TIFF tags."""
_CMYK = 5
"""Value of the TIFF tag PhotometricInterpretation."""
_TIFF_NUMBERS: Final = {3: "H", 16: "Q"}
"""Formats of the field types that are not 4 bytes long."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image file says."""

    kind: str
    """``png``, ``jpeg``, ``tiff``, ``bmp``, ``webp`` or ``pnm``."""
    height: int
    """As stored (before the EXIF rotation), in pixels."""
    width: int
    """As stored, in pixels."""
    channels: int
    """As stored: 1 grey, 2 grey and alpha, 3 colours or a palette, 4 colours and alpha (or CMYK)."""
    cmyk: bool = False
    """Whether the colours are CMYK."""
    orientation: int = 1
    """EXIF orientation of a JPEG, 1 (upright) to 8; 1 for all other formats."""

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width


def read_header(data: bytes) -> ImageHeader | None:
    """Read the header of an image file; None if the format is unknown or the data end too early."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data[:4] in TIFF_BYTE_ORDERS:
            return _tiff(data)
        if data.startswith(b"BM"):
            return _bmp(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        return _pnm(data)
    except (struct.error, KeyError, IndexError):
        return None


def _png(data: bytes) -> ImageHeader:
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    return ImageHeader("png", height, width, _PNG_CHANNELS[colour])


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of every segment of a JPEG up to and including the header of its first scan.

    If the last segment is no scan header, the file ends too early. Source: ITU-T T.81, annex B.
    """
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        if marker in _JPEG_WITHOUT_LENGTH:
            offset += 2
            continue
        end = offset + 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        yield marker, offset + 4, end
        if marker == _JPEG_SCAN:
            return
        offset = end


def _jpeg(data: bytes) -> ImageHeader | None:
    orientation = 1
    for marker, start, end in jpeg_segments(data):
        if marker == _JPEG_EXIF and data[start : start + 6] == b"Exif\x00\x00":
            tags = tiff_tags(data[start + 6 : end])
            orientation = tags.get(_ORIENTATION, (0, 1))[1]
        if marker in _JPEG_FRAMES:
            height, width, channels = struct.unpack_from(">HHB", data, start + 1)
            valid = orientation if 1 <= orientation <= 8 else 1
            return ImageHeader("jpeg", height, width, channels, channels == 4, valid)
    return None


def tiff_tags(data: bytes) -> dict[int, tuple[int, int]]:
    """Read the tags of the first image of a TIFF: tag -> (offset of its first value, that value).

    Empty if the file is damaged. Source: TIFF revision 6.0, 1992, section 2; BigTIFF has the same with wider fields.
    """
    order = TIFF_BYTE_ORDERS.get(data[:4])
    if order is None:
        return {}
    offset, start_at, count, entry_bytes, value_at = "Q", 8, "Q", 20, 12
    if data[:4] not in BIGTIFF:
        offset, start_at, count, entry_bytes, value_at = "I", 4, "H", 12, 8
    try:
        (start,) = struct.unpack_from(f"{order}{offset}", data, start_at)
        if start > len(data):
            return {}
        (entries,) = struct.unpack_from(f"{order}{count}", data, start)
        first = start + struct.calcsize(count)
        tags = {}
        for entry in range(first, min(first + entry_bytes * entries, len(data)), entry_bytes):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            (value,) = struct.unpack_from(order + _TIFF_NUMBERS.get(kind, "I"), data, entry + value_at)
            tags[tag] = (entry + value_at, value)
    except struct.error:
        return {}
    return tags


def _tiff(data: bytes) -> ImageHeader:
    tags = {tag: value for tag, (_, value) in tiff_tags(data).items()}
    cmyk = tags.get(_PHOTOMETRIC) == _CMYK
    return ImageHeader("tiff", tags[_HEIGHT], tags[_WIDTH], tags.get(_SAMPLES, 1), cmyk)


def _bmp(data: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:  # the header of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    return ImageHeader("bmp", abs(height), abs(width), 4 if bits == 32 else 3)


def _webp(data: bytes) -> ImageHeader:
    """Source: WebP container specification, and RFC 6386 (VP8), section 9.1."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        return ImageHeader("webp", height, width, 4 if data[20] & 0x10 else 3)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return ImageHeader("webp", 1 + (packed >> 14 & 0x3FFF), 1 + (packed & 0x3FFF), 4 if packed >> 28 & 1 else 3)
    width, height = struct.unpack_from("<HH", data, 26)
    return ImageHeader("webp", height & 0x3FFF, width & 0x3FFF, {b"VP8 ": 3}[kind])


def _pnm(data: bytes) -> ImageHeader | None:
    blank = rb"(?:\s|#[^\n]*\n)+"
    match = re.match(rb"P([1-6])" + blank + rb"(\d{1,9})" + blank + rb"(\d{1,9})\s", data[:4096])
    if match is None:
        return None
    return ImageHeader("pnm", int(match[3]), int(match[2]), _PNM_CHANNELS[match[1]])
