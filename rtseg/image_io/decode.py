"""Image files: which of them are damaged, which planes they hold, and in which order people expect them."""

from __future__ import annotations

import os
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.image_io.header import Head, jpeg_segments, read_head, tiff_tags
from rtseg.system.opencv import cv2

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "PlanesError",
    "check_head",
    "decode_image",
    "eight_bits",
    "image_channels",
    "refuse_cut_jpeg",
    "to_bgr",
    "with_plain_fourth_sample",
]

MAX_PIXELS = 2**27
"""Of an image, unless more or less is asked for: 16384x8192."""
_ALL_PLANES = cv2.IMREAD_COLOR | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
"""As stored, yet turned as EXIF asks, which IMREAD_UNCHANGED would not do. OpenCV 4.11 and later."""
_COLOURS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
_GREY_OR_COLOURS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
_REDUCED = {
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
}
_DAMAGED = "is damaged or cut off"
_ORDERS: Final = {b"II*\x00": "<", b"MM\x00*": ">"}
_BIG: Final = (b"II+\x00", b"MM\x00+")
_PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA = 262, 277, 284, 338
_RGB, _TOGETHER, _UNSPECIFIED = 2, 1, 0


def image_channels(channels: int) -> int:
    """Channels of the images that a network of ``channels`` (1 to 4) is given: grey is mixed of BGR inside of it."""
    return 3 if channels == 1 else channels


def check_head(head: Head | None, max_pixels: int = MAX_PIXELS) -> Head:
    """The head of a file that may be decoded.

    Raises:
        ImageError: it is of no known kind, too large, or its colours are inks, which mean nothing without their
            profile.
    """
    if head is None:
        raise ImageError("is damaged, or no image of a known kind: PNG, JPEG, TIFF, BMP, WebP or PGM")
    most = min(max_pixels, int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]))
    if head.pixels > most:
        limit = "--max-pixels" if most == max_pixels else "OPENCV_IO_MAX_IMAGE_PIXELS"
        raise ImageError(f"has {head.height}x{head.width} pixels, more than {limit} allows, {most}")
    if not head.pixels:
        raise ImageError(_DAMAGED)
    if head.cmyk:
        raise ImageError("is of CMYK, whose colours hang on a printer: save it as RGB")
    return head


def decode_image(
    data: bytes,
    channels: int = 3,
    *,
    keep_grey: bool = False,
    reduce: int = 1,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """The image that a file holds, uint8 (H, W, channels), turned as its EXIF tag asks.

    Of 16 bits the high byte is kept: value // 256.

    Args:
        data: the content of the file.
        channels: 3: BGR, made of grey, too, without transparency. 4: BGR and the fourth plane that is stored as alpha
            of a PNG or WebP or as fourth sample of an RGB TIFF, whatever it means; never multiplied into the colours.
            2: grey, mixed of colours where it is not stored so, and that plane; what a PNG of grey and alpha holds.
        keep_grey: of 3 channels: an image that is stored in grey stays (H, W, 1).
        reduce: of 3 channels: a JPEG is decoded at 1, 1/2, 1/4 or 1/8 of its size, rounded up.
        max_pixels: more are not decoded.

    Raises:
        ImageError: it is damaged, of no known kind, too large, of CMYK or of numbers that are not whole.
        PlanesError: the file holds no plane beside the colours.
    """
    head = check_head(read_head(data), max_pixels)
    if head.kind == "jpeg":
        refuse_cut_jpeg(data)
    if channels == 3:
        return _decode(data, _colour_flags(head, keep_grey, reduce))
    image = _decode(with_plain_fourth_sample(data), _ALL_PLANES)
    found = image.shape[2]
    if found != 4:
        raise PlanesError.of(found, channels)
    if channels == 4:
        return image
    grey = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY)
    return np.asarray(cv2.merge((grey, image[..., 3])), dtype=np.uint8)


def _colour_flags(head: Head, keep_grey: bool, reduce: int) -> int:
    if reduce == 1 or head.kind != "jpeg":
        return _GREY_OR_COLOURS if keep_grey else _COLOURS
    return _REDUCED[reduce][0 if keep_grey and head.channels == 1 else 1]


def _decode(data: bytes, flags: int) -> Image:
    try:
        stored: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(_DAMAGED) from error
    if stored is None:
        raise ImageError(_DAMAGED)
    return eight_bits(stored)


def eight_bits(stored: NDArray[Any]) -> Image:
    """Pixels as decoded, (H, W) or (H, W, C), as uint8 (H, W, C): of 16 bits the high byte, value // 256.

    Raises:
        ImageError: they are no whole numbers of 8 or 16 bits.
    """
    if stored.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"holds {stored.dtype}, no whole numbers of 8 or 16 bits: save it as those")
    eight = stored >> 8 if stored.dtype == np.uint16 else stored
    return np.asarray(eight, dtype=np.uint8).reshape(*stored.shape[:2], -1)


def to_bgr(image: Image) -> Image:
    """What can be shown of an image: the colours of four channels, the grey of one or two, uint8 (H, W, 3)."""
    if image.shape[2] == 3:
        return image
    if image.shape[2] == 4:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), dtype=np.uint8)
    if image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    return np.asarray(cv2.merge((image[..., 0],) * 3), dtype=np.uint8)


def refuse_cut_jpeg(data: bytes) -> None:
    """OpenCV decodes a JPEG without an end silently and fills up with grey.

    Raises:
        ImageError: there is none.
    """
    # A thumbnail in a segment has an end of its own, so the segments are leapt over.
    scan = max((end for _, _, end in jpeg_segments(data)), default=0)
    if data.find(b"\xff\xd9", scan) < 0:
        raise ImageError(_DAMAGED)


class ImageError(ValueError):
    """An image file cannot be used. The text goes on where the name of the file ends: ``is damaged or cut off``."""


class PlanesError(ImageError):
    """An image file does not hold the planes that are wanted."""

    @classmethod
    def of(cls, found: int, wanted: int) -> PlanesError:
        """The sentence for a file of ``found`` channels where ``wanted`` are needed, 2 or 4."""
        base = "colours" if wanted == 4 else "grey"
        return cls(
            f"gives {found} channel{'s' * (found != 1)}, not the {wanted} that are wanted: "
            f"store {base} and the other plane as a PNG with alpha"
        )


def with_plain_fourth_sample(data: bytes) -> bytes:
    """``data`` itself, or of a TIFF a copy that does not call its fourth sample transparency.

    Raises:
        PlanesError: it is a TIFF whose fourth sample OpenCV cannot be trusted with.

    Source: TIFF revision 6.0, 1992, sections 2 (structure), 8 (tags) and 18 (ExtraSamples).
    """
    if data.startswith(_BIG):
        raise PlanesError("is a BigTIFF, of which only colours can be read: store it as a PNG with alpha")
    order = _ORDERS.get(data[:4])
    tags = tiff_tags(data) if order else {}
    samples = tags.get(_SAMPLES, (0, 1))[1]
    if samples < 4:
        return data
    told = tags.get(_PHOTOMETRIC, (0, 0))[1], tags.get(_PLANAR, (0, _TOGETHER))[1]
    if samples > 4 or told != (_RGB, _TOGETHER):
        raise PlanesError("is a TIFF of bands or of separate planes, not of RGBA pixels: store it as those")
    if _EXTRA not in tags:
        return data
    at = tags[_EXTRA][0]
    return data[:at] + struct.pack(f"{order}H", _UNSPECIFIED) + data[at + 2 :]
