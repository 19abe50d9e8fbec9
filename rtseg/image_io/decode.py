"""Decode image files with OpenCV, and check before that they are complete and not too large."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.image_io.header import BIGTIFF, TIFF_BYTE_ORDERS, ImageHeader, jpeg_segments, read_header, tiff_tags
from rtseg.system.opencv import cv2

__all__ = [
    "MAX_PIXELS",
    "ChannelsError",
    "ImageError",
    "check_header",
    "check_jpeg_end",
    "decode_image",
    "image_channels",
    "rotate_upright",
    "to_bgr",
    "to_uint8",
]

MAX_PIXELS = 2**27
"""Default limit for one image: 16384x8192."""
_ALL_CHANNELS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
"""As stored, but rotated according to EXIF, which IMREAD_UNCHANGED does not do. Needs OpenCV 4.11."""
_COLOURS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
_GREY_OR_COLOURS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
_REDUCED = {
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
}
_DAMAGED = "is damaged or cut off"
_JPEG_END = b"\xff\xd9"
_PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA_SAMPLES = 262, 277, 284, 338
"""TIFF tags."""
_RGB, _INTERLEAVED, _UNSPECIFIED = 2, 1, 0
"""Values of the TIFF tags PhotometricInterpretation, PlanarConfiguration and ExtraSamples."""

_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
"""EXIF orientation -> function that makes the image upright. Source: EXIF 2.32, 4.6.4, tag 0x0112."""
_Number = TypeVar("_Number", bound=np.generic)


class ImageError(ValueError):
    """An image file cannot be used. The message continues the file name: ``is damaged or cut off``."""


class ChannelsError(ImageError):
    """An image file does not contain the required channels."""


def image_channels(channels: int) -> int:
    """Channels of the images for a network with ``channels`` input channels (1 to 4).

    A network with one channel takes BGR images and converts them to grey itself.
    """
    return 3 if channels == 1 else channels


def check_header(header: ImageHeader | None, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Return the header of a file that may be decoded.

    Raises:
        ImageError: the format is unknown, the image is too large, or it is CMYK, which needs a colour profile.
    """
    if header is None:
        raise ImageError("is damaged or not a supported image (PNG, JPEG, TIFF, BMP, WebP or PGM)")
    limit = min(max_pixels, int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]))
    if header.pixels > limit:
        option = "--max-pixels" if limit == max_pixels else "OPENCV_IO_MAX_IMAGE_PIXELS"
        raise ImageError(f"has {header.height}x{header.width} pixels, more than {option} allows, {limit}")
    if not header.pixels:
        raise ImageError(_DAMAGED)
    if header.cmyk:
        raise ImageError("is a CMYK image, whose colours depend on the printer: save it as RGB")
    return header


def check_jpeg_end(data: bytes) -> None:
    """Check that a JPEG has an end marker: OpenCV silently fills the missing part of an incomplete one with grey.

    Raises:
        ImageError: the end marker is missing.
    """
    # Search after the segments: a thumbnail inside a segment has an end marker too.
    scan = max((end for _, _, end in jpeg_segments(data)), default=0)
    if data.find(_JPEG_END, scan) < 0:
        raise ImageError(_DAMAGED)


def decode_image(
    data: bytes,
    channels: int = 3,
    *,
    keep_grey: bool = False,
    reduce: int = 1,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """Decode an image file to uint8 (H, W, channels), rotated according to its EXIF tag.

    Images of 16 bits are reduced to the high byte: value // 256.

    Args:
        data: content of the file.
        channels: 3: BGR, also from grey images; alpha is ignored. 4: BGR and a fourth channel, which is the alpha
            channel of a PNG or WebP, or the fourth sample of an RGB TIFF. It may have any meaning, and the colours are
            never multiplied by it. 2: grey (colours are converted) and the extra channel, as a PNG with grey and alpha
            stores them.
        keep_grey: for 3 channels: a grey image is returned as (H, W, 1).
        reduce: for 3 channels: decode a JPEG at 1, 1/2, 1/4 or 1/8 of its size, rounded up.
        max_pixels: larger images are not decoded.

    Raises:
        ImageError: the image is damaged, of unknown format, too large, CMYK, or stores floating-point numbers.
        ChannelsError: the file has no extra channel.
    """
    header = check_header(read_header(data), max_pixels)
    if header.kind == "jpeg":
        check_jpeg_end(data)
    if channels == 3:
        return _decode(data, _colour_flags(header, keep_grey, reduce))
    image = _decode(_without_tiff_alpha(data), _ALL_CHANNELS)
    stored = image.shape[2]
    if stored != 4:
        base = "colours" if channels == 4 else "grey"
        raise ChannelsError(
            f"has {stored} channel{'s' * (stored != 1)}, not the required {channels}: "
            f"save {base} and the extra channel as a PNG with alpha"
        )
    if channels == 4:
        return image
    grey = cv2.cvtColor(image, cv2.COLOR_BGRA2GRAY)
    return np.asarray(cv2.merge((grey, image[..., 3])), dtype=np.uint8)


def _colour_flags(header: ImageHeader, keep_grey: bool, reduce: int) -> int:
    if reduce == 1 or header.kind != "jpeg":
        return _GREY_OR_COLOURS if keep_grey else _COLOURS
    return _REDUCED[reduce][0 if keep_grey and header.channels == 1 else 1]


def _decode(data: bytes, flags: int) -> Image:
    try:
        stored: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(_DAMAGED) from error
    if stored is None:
        raise ImageError(_DAMAGED)
    return to_uint8(stored)


def _without_tiff_alpha(data: bytes) -> bytes:
    """Mark the fourth sample of a TIFF as unspecified, so that OpenCV does not treat it as alpha.

    Returns ``data`` itself where nothing has to change.

    Raises:
        ChannelsError: it is a TIFF whose fourth sample OpenCV does not read as stored.

    Source: TIFF revision 6.0, 1992, sections 2 (structure), 8 (tags) and 18 (ExtraSamples).
    """
    if data.startswith(BIGTIFF):
        raise ChannelsError("is a BigTIFF, whose extra channel cannot be read: save it as a PNG with alpha")
    order = TIFF_BYTE_ORDERS.get(data[:4])
    tags = tiff_tags(data) if order else {}
    samples = tags.get(_SAMPLES, (0, 1))[1]
    if samples < 4:
        return data
    layout = tags.get(_PHOTOMETRIC, (0, 0))[1], tags.get(_PLANAR, (0, _INTERLEAVED))[1]
    if samples > 4 or layout != (_RGB, _INTERLEAVED):
        raise ChannelsError("is a TIFF with bands or separate planes, not with RGBA pixels: save it with RGBA pixels")
    if _EXTRA_SAMPLES not in tags:
        return data
    offset = tags[_EXTRA_SAMPLES][0]
    return data[:offset] + struct.pack(f"{order}H", _UNSPECIFIED) + data[offset + 2 :]


def rotate_upright(pixels: NDArray[_Number], orientation: int) -> NDArray[_Number]:
    """Rotate or mirror decoded pixels, (H, W) or (H, W, C), as the EXIF orientation of their file, 1 to 8, requires."""
    upright: NDArray[_Number] = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
    return upright


def to_uint8(stored: NDArray[Any]) -> Image:
    """Convert decoded pixels, (H, W) or (H, W, C), to uint8 (H, W, C). Of 16 bits the high byte is kept.

    Raises:
        ImageError: they are not integers of 8 or 16 bits.
    """
    if stored.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"stores {stored.dtype}, not integers of 8 or 16 bits: convert it")
    pixels = stored >> 8 if stored.dtype == np.uint16 else stored
    return np.asarray(pixels, dtype=np.uint8).reshape(*stored.shape[:2], -1)


def to_bgr(image: Image) -> Image:
    """Return the visible part of an image as BGR, uint8 (H, W, 3): without the extra channel, grey three times."""
    if image.shape[2] == 3:
        return image
    if image.shape[2] == 4:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), dtype=np.uint8)
    if image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    return np.asarray(cv2.merge((image[..., 0],) * 3), dtype=np.uint8)
