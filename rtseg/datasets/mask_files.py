"""Read the exact values, numbers or colours, that mask files store.

cv2 converts a palette PNG or TIFF to colours, and scales the 0 and 1 of a one-bit PNG to 0 and 255; the stored numbers
are lost.
But a palette PNG and a grey PNG store their pixels in the same way and differ only in one byte of the header. The
header is therefore changed to grey before cv2 decodes the file, which yields the stored numbers. cv2 rotates images of
all formats by their EXIF tag, but with ``IMREAD_UNCHANGED`` only a TIFF; here every mask is rotated, like its image.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rtseg.datasets import ReadFile
from rtseg.errors import DatasetError
from rtseg.image_io.decode import rotate_upright
from rtseg.image_io.header import TIFF_BYTE_ORDERS, read_header, tiff_tags
from rtseg.system.opencv import cv2
from rtseg.system.read_file import read_image_bytes

__all__ = ["StoredMask", "pack", "read_mask"]

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_GREY, _PALETTE = 0, 3  # colour types of a PNG
_BITS, _PHOTOMETRIC, _COLOUR_MAP = 258, 262, 320
"""TIFF tags."""
_BLACK_IS_ZERO, _TIFF_PALETTE = 1, 3
"""Values of the TIFF tag PhotometricInterpretation."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredMask:
    """Content of a mask file: numbers, colours, or both if all colours are greys."""

    orientation: int
    """EXIF orientation in the file, 1 to 8; the arrays are upright."""
    numbers: NDArray[Any] | None
    """Stored grey values or palette indices, uint8 or uint16 (H, W)."""
    colours: NDArray[np.uint32] | None
    """0xRRGGBB, (H, W), if the file stores three channels or more."""
    palette: NDArray[np.uint32] | None
    """0xRRGGBB of every number, (256,), if the file stores numbers of up to 8 bits."""


def pack(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Pack RGB colours, uint8 (..., 3), to 0xRRGGBB, shape (...)."""
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return np.asarray(red << 16 | green << 8 | blue, dtype=np.uint32)


def read_mask(path: Path, read: ReadFile = read_image_bytes) -> StoredMask:
    """Read a mask file.

    Args:
        path: of the file.
        read: returns its content.

    Raises:
        DatasetError: the file is missing or damaged, or its format does not store exact values.

    Source: PNG specification, third edition, sections 5 (chunks, CRC) and 11.2.1 (IHDR).
    """
    try:
        data = read(path)
    except OSError as error:
        raise DatasetError(f"cannot read the mask {path}: {error.strerror}") from error
    if data.startswith(_JPEG):
        raise DatasetError(f"{path} is a JPEG, which does not store exact values: save masks as PNG")
    header = read_header(data)
    if header is not None and len(header.pages) > 1:
        raise DatasetError(f"{path} contains {len(header.pages)} images: save each mask in a file of its own")
    orientation = header.orientation if header is not None else 1
    if data.startswith(_PNG):
        return _read_png(path, data, orientation)
    is_upright = header is not None and header.kind == "tiff"
    if is_upright and (palette := _tiff_palette(path, data)) is not None:
        at, colours = palette
        order = TIFF_BYTE_ORDERS[data[:4]]
        numbers = _decode(path, data[:at] + struct.pack(f"{order}H", _BLACK_IS_ZERO) + data[at + 2 :])
        return StoredMask(orientation, numbers, None, colours)
    array = _decode(path, data)
    return _from_array(path, array if is_upright else rotate_upright(array, orientation), orientation)


def _tiff_palette(path: Path, data: bytes) -> tuple[int, NDArray[np.uint32]] | None:
    """Return where a TIFF says that it has a palette, and its colours; None if it has none.

    OpenCV would convert it to colours. If the file said that it is grey, OpenCV would return the stored numbers.

    Raises:
        DatasetError: the numbers do not have 8 bits, or the palette is damaged.

    Source: TIFF revision 6.0, 1992, section 5 (palette-colour images).
    """
    tags = tiff_tags(data)
    at, photometric = tags.get(_PHOTOMETRIC, (0, 0))
    if photometric != _TIFF_PALETTE:
        return None
    if tags.get(_BITS, (0, 1))[1] != 8 or _COLOUR_MAP not in tags:
        raise DatasetError(f"{path} is a TIFF with a palette that cannot be read: save masks as PNG")
    try:
        stored = struct.unpack_from(f"{TIFF_BYTE_ORDERS[data[:4]]}768H", data, tags[_COLOUR_MAP][0])
    except struct.error as error:
        raise DatasetError(f"{path} is damaged: its palette is cut off") from error
    return at, pack((np.array(stored, np.uint16).reshape(3, 256).T >> 8).astype(np.uint8))


def _read_png(path: Path, data: bytes, orientation: int) -> StoredMask:
    chunks = _read_chunks(path, data)
    header = dict(chunks).get(b"IHDR", b"")
    if len(header) != 13:
        raise DatasetError(f"{path} is damaged: it has no header")
    depth, colour_type = header[8], header[9]
    if colour_type not in (_GREY, _PALETTE):
        return _from_array(path, rotate_upright(_decode(path, data), orientation), orientation)
    # Change the type to grey, and drop the chunks (gamma, transparency ..) that would alter the decoded values.
    header = header[:9] + bytes([_GREY]) + header[10:]
    grey_chunks = [(b"IHDR", header), *(chunk for chunk in chunks if chunk[0] == b"IDAT"), (b"IEND", b"")]
    numbers = _decode(path, _PNG + b"".join(_write_chunk(kind, body) for kind, body in grey_chunks))
    numbers = rotate_upright(numbers, orientation)
    if depth < 8:
        numbers = numbers // (255 // ((1 << depth) - 1))
    if numbers.dtype != np.uint8:
        return StoredMask(orientation, numbers, None, None)
    if colour_type == _GREY:
        return StoredMask(orientation, numbers, None, _grey_palette(depth))
    colours = np.frombuffer(dict(chunks).get(b"PLTE", b""), np.uint8)
    colours = colours[: colours.size // 3 * 3].reshape(-1, 3)
    if int(numbers.max()) >= len(colours):
        raise DatasetError(f"{path} is damaged: its palette has {len(colours)} colours, a pixel uses {numbers.max()}")
    palette = np.zeros(256, np.uint32)
    palette[: len(colours)] = pack(colours[:256])
    return StoredMask(orientation, numbers, None, palette)


def _grey_palette(depth: int) -> NDArray[np.uint32]:
    """Return 0xRRGGBB of every grey value of ``depth`` bits; with one bit, 1 is white."""
    scale = 255 // ((1 << depth) - 1)
    return pack(np.minimum(np.arange(256) * scale, 255).astype(np.uint8)[:, None].repeat(3, axis=1))


def _from_array(path: Path, array: NDArray[Any], orientation: int) -> StoredMask:
    """Convert a decoded image, grey, BGR or BGRA. The alpha channel is ignored."""
    if array.ndim == 2:
        return StoredMask(orientation, array, None, _grey_palette(8) if array.dtype == np.uint8 else None)
    if array.dtype != np.uint8:
        raise DatasetError(f"{path} has colours of {array.dtype}: save masks with 8 bits per channel")
    blue, green, red = (array[..., channel] for channel in range(3))
    is_grey = np.array_equal(blue, green) and np.array_equal(green, red)
    return StoredMask(orientation, np.ascontiguousarray(blue) if is_grey else None, pack(array[..., 2::-1]), None)


def _decode(path: Path, data: bytes) -> NDArray[Any]:
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        array = None
    if array is None or array.dtype not in (np.uint8, np.uint16):
        raise DatasetError(f"{path} cannot be read: it is damaged, too large, or not a PNG, TIFF, BMP or PGM")
    return array


def _read_chunks(path: Path, data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and content of every chunk. Detects truncated and modified files, which cv2 may decode in part."""
    chunks: list[tuple[bytes, bytes]] = []
    start = len(_PNG)
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        kind, body = data[start + 4 : start + 8], data[start + 8 : start + 8 + length]
        if data[start + 8 + length : start + 12 + length] != struct.pack(">I", zlib.crc32(kind + body)):
            raise DatasetError(f"{path} is damaged: the checksum of a chunk is wrong")
        chunks.append((kind, body))
        if kind == b"IEND":
            return chunks
        start += 12 + length
    raise DatasetError(f"{path} is damaged: it is truncated")


def _write_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
