"""Masks as they are stored: numbers or colours, exactly.

cv2 turns a palette PNG into colours, and spreads the 0 and 1 of a one-bit PNG to 0 and 255; either way the number that
was stored is lost. The pixels of a palette PNG and of a grey PNG are stored alike, though, and only one byte of the
header tells them apart. So the header is rewritten before cv2 decodes it, and the numbers come out.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rtseg.datasets import Read
from rtseg.errors import DatasetError
from rtseg.system.opencv import cv2

__all__ = ["StoredMask", "pack", "read_mask"]

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_GREY, _PALETTE = 0, 3  # colour types of a PNG


@dataclass(frozen=True, slots=True, eq=False)
class StoredMask:
    """What a mask file holds: numbers, colours, or both where every colour of it is a grey."""

    numbers: NDArray[Any] | None
    """Grey values or places in the palette as stored, uint8 or uint16 (H, W)."""
    colours: NDArray[np.uint32] | None
    """0xRRGGBB, (H, W), of a file that stores three channels or more."""
    palette: NDArray[np.uint32] | None
    """0xRRGGBB of every number, (256,), of a file that stores numbers of up to 8 bits."""


def pack(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """0xRRGGBB, shape (...), of RGB colours, uint8 (..., 3)."""
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return np.asarray(red << 16 | green << 8 | blue, dtype=np.uint32)


def read_mask(path: Path, read: Read = Path.read_bytes) -> StoredMask:
    """The mask in ``path``, whose content ``read`` gives.

    Raises:
        DatasetError: it is missing, damaged, or of a kind that keeps no exact values.

    Source: PNG specification, third edition, sections 5 (chunks, CRC) and 11.2.1 (IHDR).
    """
    try:
        data = read(path)
    except OSError as error:
        raise DatasetError(f"cannot read the mask {path}: {error.strerror}") from error
    if data.startswith(_JPEG):
        raise DatasetError(f"{path} is a JPEG, which keeps no exact values: store masks as PNG")
    if data.startswith(_PNG):
        return _read_png(path, data)
    return _from_array(path, _decode(path, data))


def _read_png(path: Path, data: bytes) -> StoredMask:
    chunks = _chunks(path, data)
    header = dict(chunks).get(b"IHDR", b"")
    if len(header) != 13:
        raise DatasetError(f"{path} is damaged: it has no header")
    depth, colour_type = header[8], header[9]
    if colour_type not in (_GREY, _PALETTE):
        return _from_array(path, _decode(path, data))
    # Grey, and without the chunks (gamma, transparency ..) that change what is decoded.
    header = header[:9] + bytes([_GREY]) + header[10:]
    plain = [(b"IHDR", header), *(chunk for chunk in chunks if chunk[0] == b"IDAT"), (b"IEND", b"")]
    numbers = _decode(path, _PNG + b"".join(_chunk(kind, body) for kind, body in plain))
    if depth < 8:
        numbers = numbers // (255 // ((1 << depth) - 1))
    if numbers.dtype != np.uint8:
        return StoredMask(numbers, None, None)
    if colour_type == _GREY:
        return StoredMask(numbers, None, _greys(depth))
    colours = np.frombuffer(dict(chunks).get(b"PLTE", b""), np.uint8)
    colours = colours[: colours.size // 3 * 3].reshape(-1, 3)
    if int(numbers.max()) >= len(colours):
        raise DatasetError(f"{path} is damaged: its palette has {len(colours)} colours, a pixel wants {numbers.max()}")
    palette = np.zeros(256, np.uint32)
    palette[: len(colours)] = pack(colours[:256])
    return StoredMask(numbers, None, palette)


def _greys(depth: int) -> NDArray[np.uint32]:
    """0xRRGGBB of every grey value of ``depth`` bits: 1 is white where there is but one bit."""
    scale = 255 // ((1 << depth) - 1)
    return pack(np.minimum(np.arange(256) * scale, 255).astype(np.uint8)[:, None].repeat(3, axis=1))


def _from_array(path: Path, array: NDArray[Any]) -> StoredMask:
    """``array`` as cv2 decodes a file that is no palette PNG: grey, BGR or BGRA. Transparency says nothing."""
    if array.ndim == 2:
        return StoredMask(array, None, _greys(8) if array.dtype == np.uint8 else None)
    if array.dtype != np.uint8:
        raise DatasetError(f"{path} has colours of {array.dtype}: store masks with 8 bits a channel")
    blue, green, red = (array[..., channel] for channel in range(3))
    is_grey = np.array_equal(blue, green) and np.array_equal(green, red)
    return StoredMask(np.ascontiguousarray(blue) if is_grey else None, pack(array[..., 2::-1]), None)


def _decode(path: Path, data: bytes) -> NDArray[Any]:
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        array = None
    if array is None or array.dtype not in (np.uint8, np.uint16):
        raise DatasetError(f"{path} is no mask that can be read: damaged, too large, or no PNG, TIFF, BMP or PGM")
    return array


def _chunks(path: Path, data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of every chunk. A file that is cut or changed is found here; cv2 may decode it in part."""
    chunks: list[tuple[bytes, bytes]] = []
    at = len(_PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if data[at + 8 + length : at + 12 + length] != struct.pack(">I", zlib.crc32(kind + body)):
            raise DatasetError(f"{path} is damaged: the checksum of a chunk does not fit")
        chunks.append((kind, body))
        if kind == b"IEND":
            return chunks
        at += 12 + length
    raise DatasetError(f"{path} is damaged: it ends too early")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
