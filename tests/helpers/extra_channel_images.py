"""Write image files with an extra channel, in variants that none of the installed libraries can write."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import torch
from numpy.typing import NDArray

GREY_ALPHA, RGBA = 4, 6
"""Colour types of a PNG."""


def noise(channels: int, dtype: type = np.uint8, size: tuple[int, int] = (6, 7)) -> NDArray[np.generic]:
    """Return an image of random values over the range of ``dtype``; the extra channel contains a 0."""
    values = np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (*size, channels)).astype(dtype)
    values[0, 0, -1] = 0
    return values


def png(pixels: NDArray[np.generic], *, rotated: bool = False) -> bytes:
    """Return a PNG of 8 or 16 bits: grey or RGB, and an extra channel; ``rotated`` by an EXIF tag (orientation 6)."""
    height, width, channels = pixels.shape
    kind = {2: GREY_ALPHA, 4: RGBA}[channels]
    stored = pixels.astype(f">u{pixels.itemsize}")
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, 0)
    exif = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0)
    body = zlib.compress(b"".join(b"\x00" + row.tobytes() for row in stored))
    chunks = [(b"IHDR", head), *([(b"eXIf", exif)] if rotated else []), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(
    pixels: NDArray[np.generic],
    *,
    order: str = "<",
    photometric: int = 2,
    planar: int = 1,
    extra: int | None = 2,
    wide: bool = False,
) -> bytes:
    """Return a TIFF with one uncompressed strip.

    Args:
        pixels: (H, W, C) as stored, of 8 or 16 bits.
        order: ``<`` or ``>``.
        photometric: 2 RGB, 5 CMYK, 1 grey.
        planar: 1 interleaved, 2 separate; sets only the tag, the order of ``pixels`` is unchanged.
        extra: meaning of the extra samples: 0 unspecified, 1 and 2 transparency; None leaves out the tag.
        wide: use 32-bit values in tags that allow both sizes.
    """
    height, width, channels = pixels.shape
    body = pixels.astype(f"{order}u{pixels.itemsize}").tobytes()
    bits_at = 8 + len(body)
    short, long = ("H", "I")
    size = long if wide else short
    tags = [
        (256, size, width),
        (257, size, height),
        (258, short, bits_at),
        (259, short, 1),
        (262, short, photometric),
        (273, long, 8),
        (277, short, channels),
        (278, size, height),
        (279, long, len(body)),
        (284, short, planar),
        *([(338, short, extra)] if extra is not None else []),
    ]
    bits = struct.pack(f"{order}{channels}H", *[8 * pixels.itemsize] * channels)
    start = bits_at + len(bits)
    entries = b"".join(_entry(order, tag, kind, value, channels if tag == 258 else 1) for tag, kind, value in tags)
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, start)
    return head + body + bits + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def _entry(order: str, tag: int, kind: str, value: int, count: int) -> bytes:
    number = 3 if kind == "H" else 4
    in_place = kind == "H" and count == 1
    data = struct.pack(f"{order}HH", value, 0) if in_place else struct.pack(f"{order}I", value)
    return struct.pack(f"{order}HHI", tag, number, count) + data


def to_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """Convert an image, uint8 (H, W, C), to the layout of training: (C, H, W), RGB instead of BGR."""
    order = {2: [0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[image.shape[2]]
    return torch.from_numpy(image[..., order].transpose(2, 0, 1).copy())
