"""Decode image files with OpenCV, and check before that they are complete and not too large."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.image_io.header import (
    BIGTIFF,
    TIFF_BYTE_ORDERS,
    ImageHeader,
    jpeg_segments,
    png_chunks,
    read_header,
    tiff_tags,
)
from rtseg.image_io.notes import NoteImage
from rtseg.system.opencv import cv2

__all__ = [
    "MAX_PIXELS",
    "ChannelsError",
    "ImageError",
    "check_complete",
    "check_header",
    "decode_image",
    "decode_pages",
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
_WHITE_8, _WHITE_16 = 255, 65535
_LOW = 1 << 14
"""An image of 16 bits whose values are all lower was probably stored with fewer significant bits."""
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
        ImageError: the format is unknown, or the image is too large, a JPEG of 12 bits, or CMYK, which needs a colour
            profile.
    """
    if header is None:
        raise ImageError("is damaged or not a supported image (PNG, JPEG, TIFF, BMP, WebP or PGM)")
    limit = min(max_pixels, int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]))
    if header.pixels > limit:
        option = "--max-pixels" if limit == max_pixels else "OPENCV_IO_MAX_IMAGE_PIXELS"
        raise ImageError(f"has {header.height}x{header.width} pixels, more than {option} allows, {limit}")
    if not header.pixels:
        raise ImageError(_DAMAGED)
    if header.kind == "jpeg" and header.bits != 8:
        raise ImageError(f"is a JPEG with {header.bits} bits per value, which cannot be read: save it as PNG or TIFF")
    if header.cmyk:
        raise ImageError("is a CMYK image, whose colours depend on the printer: save it as RGB")
    return header


def check_complete(header: ImageHeader, data: bytes) -> None:
    """Check what the libraries do not check before they allocate memory or decode.

    OpenCV fills the missing part of a JPEG without an end marker with grey. For a chunk of a PNG it allocates the
    length that the file claims: 900 bytes can claim 2 GB.

    Raises:
        ImageError: the end of the file is missing.
    """
    if header.kind == "png" and max((end for _, _, end in png_chunks(data)), default=0) > len(data):
        raise ImageError(_DAMAGED)
    if header.kind == "jpeg":
        _check_jpeg_end(data)


def _check_jpeg_end(data: bytes) -> None:
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
    bits: int | None = None,
    note: NoteImage | None = None,
) -> Image:
    """Decode an image file to uint8 (H, W, channels), rotated according to its EXIF tag. Of several images: the first.

    Values of 16 bits are reduced to the highest 8 of ``bits``: value // 2 ** (bits - 8).

    Args:
        data: content of the file.
        channels: 3: BGR, also from grey images; alpha is ignored. 4: BGR and a fourth channel, which is the alpha
            channel of a PNG or WebP, or the fourth sample of an RGB TIFF. It may have any meaning, and the colours are
            never multiplied by it. 2: grey (colours are converted) and the extra channel, as a PNG with grey and alpha
            stores them.
        keep_grey: for 3 channels: a grey image is returned as (H, W, 1).
        reduce: for 3 channels: decode a JPEG at 1, 1/2, 1/4 or 1/8 of its size, rounded up.
        max_pixels: larger images are not decoded.
        bits: significant bits of images stored with 16: 12 for values up to 4095. Default: as the file declares (sBIT
            of a PNG, MaxSampleValue of a TIFF, the maximum of a PNM), else 16.
        note: called if the file contains several images, or values so low that the image looks dark.

    Raises:
        ImageError: the image is damaged, of unknown format, too large, CMYK, stores floating-point numbers, or values
            of more than ``bits``.
        ChannelsError: the file has no extra channel.
    """
    header = check_header(read_header(data), max_pixels)
    check_complete(header, data)
    if note is not None and len(header.pages) > 1:
        note("pages", len(header.pages))
    if channels == 3:
        stored = _decode(data, _colour_flags(header, keep_grey, reduce))
        return to_uint8(_scale_pnm(stored, header, data), _max_value(stored, header, bits, note))
    pixels = _decode(_without_tiff_alpha(data), _ALL_CHANNELS)
    image = to_uint8(pixels, _max_value(pixels, header, bits, note))
    if image.shape[2] != 4:
        base = "colours" if channels == 4 else "grey"
        raise ChannelsError(
            f"has {image.shape[2]} channel{'s' * (image.shape[2] != 1)}, not the required {channels}: "
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


def decode_pages(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    bits: int | None = None,
    note: NoteImage | None = None,
) -> Iterator[Image]:
    """Decode every image of a file: the pages of a TIFF, the frames of an animation. Grey images stay (H, W, 1).

    Only one page of a TIFF is in memory at a time, but all frames of an animation: together they may have at most
    ``max_pixels``. The other arguments: see ``decode_image``.

    Raises:
        ImageError: see ``decode_image``.
    """
    header = check_header(read_header(data), max_pixels)
    check_complete(header, data)
    if header.kind == "tiff":
        for page in header.pages:
            (stored,) = _decode_several(data, (page, page + 1))
            yield to_uint8(stored, _max_value(stored, header, bits, note))
        return
    if len(header.pages) * header.pixels > max_pixels:
        raise ImageError(
            f"has {len(header.pages)} images of {header.height}x{header.width} pixels, together more than --max-pixels "
            f"allows, {max_pixels}"
        )
    for stored in _decode_several(data):
        yield to_uint8(stored, _max_value(stored, header, bits, note))


def _decode_several(data: bytes, pages: tuple[int, int] | None = None) -> Sequence[NDArray[Any]]:
    limits: dict[str, Any] = {} if pages is None else {"range": pages}
    try:
        is_complete, images = cv2.imdecodemulti(np.frombuffer(data, np.uint8), _GREY_OR_COLOURS, **limits)
    except cv2.error as error:
        raise ImageError(_DAMAGED) from error
    if not is_complete or not images:
        raise ImageError(_DAMAGED)
    return images


def _decode(data: bytes, flags: int) -> NDArray[Any]:
    try:
        stored: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(_DAMAGED) from error
    if stored is None:
        raise ImageError(_DAMAGED)
    return stored


def _max_value(stored: NDArray[Any], header: ImageHeader, bits: int | None, note: NoteImage | None) -> int:
    """Return the value of white in an image of 16 bits.

    Raises:
        ImageError: the image has higher values than ``bits`` allows.
    """
    if stored.dtype != np.uint16:
        return _WHITE_8
    # The extra channel may have another range: opaque is 65535.
    colours = stored[..., : stored.shape[2] - 1] if stored.ndim == 3 and stored.shape[2] in (2, 4) else stored
    highest = int(colours.max())
    if bits is not None:
        if highest >= 1 << bits:
            raise ImageError(f"has values up to {highest}, more than {bits} bits can store: give more --bits")
        return (1 << bits) - 1
    declared = header.max_value
    if (
        declared is not None
        and highest <= declared
        and not (header.kind == "png" and _fills_16_bits(colours, declared))
    ):
        return declared
    if note is not None and 0 < highest < _LOW:
        note("low", highest)
    return _WHITE_16


def _fills_16_bits(colours: NDArray[np.uint16], declared: int) -> bool:
    """Whether values with fewer significant bits were scaled to 16, as the PNG specification requires.

    Source: PNG (Third Edition), W3C 2025, 12.4 (sample depth scaling): linear, or shifted to the left.
    """
    values = np.unique(colours)
    scale = _WHITE_16 / declared
    is_linear = np.array_equal(np.rint(np.rint(values / scale) * scale), values)
    return is_linear or not (values % ((_WHITE_16 + 1) // (declared + 1))).any()


def _scale_pnm(stored: NDArray[Any], header: ImageHeader, data: bytes) -> NDArray[Any]:
    """Scale the 8-bit values of a binary PNM to 0..255, as OpenCV does with those of a PNM of text."""
    if header.kind != "pnm" or header.bits > 8 or header.max_value is None or data[1:2] not in b"56":
        return stored
    return np.asarray(np.minimum(stored.astype(np.uint16) * 255 // max(1, header.max_value), 255), dtype=np.uint8)


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


def to_uint8(stored: NDArray[Any], max_value: int = _WHITE_16) -> Image:
    """Convert decoded pixels, (H, W) or (H, W, C), to uint8 (H, W, C).

    Args:
        stored: the pixels.
        max_value: the value of white in 16 bits, 255 or more. Values above it become 255.

    Raises:
        ImageError: they are not integers of 8 or 16 bits.
    """
    if stored.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"stores {stored.dtype}, not integers of 8 or 16 bits: convert it")
    if stored.dtype == np.uint8:
        pixels = stored
    elif max_value == _WHITE_16:
        pixels = stored >> 8
    else:
        pixels = np.minimum(stored.astype(np.uint32) * 256 // (max_value + 1), 255)
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
