"""Read the format, size and channels of an image from the header of its file, without decoding it.

A decoder allocates the memory that the header asks for: a PNG of 47 kB can ask for gigabytes. So check it first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = [
    "BIGTIFF",
    "TIFF_BYTE_ORDERS",
    "ImageHeader",
    "jpeg_segments",
    "png_chunks",
    "read_header",
    "tiff_pages",
    "tiff_tags",
]

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
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _MAX_SAMPLE = (
    254,
    256,
    257,
    258,
    262,
    274,
    277,
    281,
)
"""TIFF tags."""
_SMALLER_OR_MASK = 1 | 4
"""Bits of the TIFF tag NewSubfileType of images that are no page of their own: a smaller copy, a transparency mask."""
_MAX_PAGES = 100_000
_CMYK = 5
"""Value of the TIFF tag PhotometricInterpretation."""
_TIFF_SHORT: Final = 3
_TIFF_NUMBERS: Final = {_TIFF_SHORT: "H", 16: "Q"}
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
    """EXIF orientation, 1 (upright) to 8."""
    bits: int = 8
    """Per sample, as stored: at most 8, or 16; of a JPEG also 12."""
    max_value: int | None = None
    """Largest value of a sample, if the file declares it: that of a PNM, or of a TIFF or PNG with fewer bits than are
    stored."""
    pages: tuple[int, ...] = (0,)
    """Index of each image in the file: pages of a TIFF without smaller copies, frames of an animated PNG or WebP."""
    durations_s: tuple[float, ...] = ()
    """How long each image of an animation is shown, in seconds."""

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


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of every chunk of a PNG, as far as the file goes."""
    offset = 8
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        yield kind, offset + 8, offset + 8 + length
        offset += 12 + length


def _png(data: bytes) -> ImageHeader:
    """Source: PNG (Third Edition), W3C 2025, 11.2.1 (IHDR), 11.3.3 (sBIT), 11.3.2 (acTL, fcTL), 11.3.7 (eXIf)."""
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    orientation, max_value, durations_s = 1, None, []
    for kind, start, end in png_chunks(data):
        if kind == b"eXIf":
            orientation = _exif_orientation(data[start:end])
        elif kind == b"sBIT" and bits == 16 and end > start:
            max_value = (1 << max(data[start : min(end, start + 3)])) - 1
        elif kind == b"fcTL":
            numerator, denominator = struct.unpack_from(">HH", data, start + 20)
            durations_s.append(numerator / (denominator or 100))
    pages = tuple(range(max(1, len(durations_s))))
    return ImageHeader(
        "png",
        height,
        width,
        _PNG_CHANNELS[colour],
        orientation=orientation,
        bits=bits,
        max_value=max_value,
        pages=pages,
        durations_s=tuple(durations_s) if len(pages) > 1 else (),
    )


def _exif_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, a TIFF without an image; 1 if there is none or it is invalid."""
    value = tiff_tags(exif).get(_ORIENTATION, (0, 1))[1]
    return value if 1 <= value <= 8 else 1


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
            orientation = _exif_orientation(data[start + 6 : end])
        if marker in _JPEG_FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, start)
            return ImageHeader("jpeg", height, width, channels, channels == 4, orientation, bits)
    return None


def tiff_tags(data: bytes) -> dict[int, tuple[int, int]]:
    """Read the tags of the first image of a TIFF; see ``tiff_pages``. Empty if the file is damaged."""
    return next(tiff_pages(data), {})


def tiff_pages(data: bytes) -> Iterator[dict[int, tuple[int, int]]]:
    """Yield the tags of each image of a TIFF, as far as the file is intact: tag -> (offset of its first value, value).

    A list of values that does not fit into the entry is followed to its first value, where that is a number.

    Source: TIFF revision 6.0, 1992, section 2; BigTIFF has the same with wider fields.
    """
    order = TIFF_BYTE_ORDERS.get(data[:4])
    if order is None:
        return
    is_big = data[:4] in BIGTIFF
    offset, start_at, count, entry_bytes, value_at = ("Q", 8, "Q", 20, 12) if is_big else ("I", 4, "H", 12, 8)
    seen: set[int] = set()
    try:
        (start,) = struct.unpack_from(f"{order}{offset}", data, start_at)
        while start and start not in seen and len(seen) < _MAX_PAGES:  # the chain may contain a cycle
            seen.add(start)
            (entries,) = struct.unpack_from(f"{order}{count}", data, start)
            first = start + struct.calcsize(f"={count}")
            end = min(first + entry_bytes * entries, len(data))
            tags = {}
            for entry in range(first, end, entry_bytes):
                tag, kind, values = struct.unpack_from(f"{order}HH{offset}", data, entry)
                at = entry + value_at
                if kind == _TIFF_SHORT and values * 2 > struct.calcsize(f"={offset}"):
                    (at,) = struct.unpack_from(f"{order}{offset}", data, at)
                (value,) = struct.unpack_from(order + _TIFF_NUMBERS.get(kind, "I"), data, at)
                tags[tag] = (at, value)
            yield tags
            (start,) = struct.unpack_from(f"{order}{offset}", data, end)
    except (struct.error, OverflowError):
        return


def _tiff(data: bytes) -> ImageHeader:
    pages = [{tag: value for tag, (_, value) in page.items()} for page in tiff_pages(data)]
    tags = pages[0]
    bits, max_value, orientation = tags.get(_BITS, 1), tags.get(_MAX_SAMPLE), tags.get(_ORIENTATION, 1)
    own_pages = [index for index, page in enumerate(pages) if not page.get(_SUBFILE, 0) & _SMALLER_OR_MASK]
    return ImageHeader(
        "tiff",
        tags[_HEIGHT],
        tags[_WIDTH],
        tags.get(_SAMPLES, 1),
        cmyk=tags.get(_PHOTOMETRIC) == _CMYK,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        bits=bits if bits <= 8 else 16,
        max_value=max_value if bits == 16 else None,  # OpenCV scales 9 to 15 bits to 16
        pages=tuple(own_pages) or (0,),
    )


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
        orientation, durations_s, offset = 1, [], 12
        while offset + 8 <= len(data):
            chunk, length = struct.unpack_from("<4sI", data, offset)
            if chunk == b"EXIF":
                orientation = _exif_orientation(data[offset + 8 : offset + 8 + length].removeprefix(b"Exif\0\0"))
            elif chunk == b"ANMF":
                durations_s.append(int.from_bytes(data[offset + 20 : offset + 23], "little") / 1000)
            offset += 8 + length + length % 2
        pages = tuple(range(max(1, len(durations_s))))
        times = tuple(durations_s) if len(pages) > 1 else ()
        channels = 4 if data[20] & 0x10 else 3
        return ImageHeader("webp", height, width, channels, orientation=orientation, pages=pages, durations_s=times)
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
    end = re.match(blank + rb"(\d{1,5})\s", data[match.end() - 1 : match.end() + 4096])
    max_value = int(end[1]) if end and match[1] not in b"14" else 255
    return ImageHeader(
        "pnm",
        int(match[3]),
        int(match[2]),
        _PNM_CHANNELS[match[1]],
        bits=16 if max_value > 255 else 8,
        max_value=max_value if max_value not in (255, 65535) else None,
    )
