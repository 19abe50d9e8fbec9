"""The libraries that can decode image files: OpenCV, Pillow, libjpeg-turbo (simplejpeg) and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import MissingExtra
from rtseg.frame import Image
from rtseg.image_io.decode import (
    MAX_PIXELS,
    ImageError,
    check_complete,
    check_header,
    decode_image,
    rotate_upright,
    to_uint8,
)
from rtseg.image_io.header import ImageHeader, read_header
from rtseg.image_io.notes import NoteImage

__all__ = ["DecodeOptions", "Decoder", "open_decoder"]


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode a file; see ``decode_image``. Grey images stay grey."""

    channels: int = 3
    reduce: int = 1
    max_pixels: int = MAX_PIXELS
    bits: int | None = None
    note: NoteImage | None = None


Decoder = Callable[[bytes, DecodeOptions], Image]
"""Decodes a file to uint8 (H, W, C), rotated according to its EXIF tag. C is 1 for a grey image if 3 channels are asked
for.

Raises:
    ImageError: the file cannot be used.
"""


def open_decoder(name: str) -> Decoder:
    """Load the library of a decoder, and return the decoder.

    ``turbojpeg`` decodes JPEG, ``torchvision`` JPEG, PNG and WebP, ``pil`` all but PNM. OpenCV decodes the other
    formats, and every image with 16 bits or an extra channel.

    Args:
        name: one of ``rtseg.image_io.options.DECODERS``.

    Raises:
        MissingExtra: the library is not installed.
    """
    decoders = {"cv2": lambda: _decode_cv2, "pil": _pil, "turbojpeg": _turbojpeg, "torchvision": _torchvision}
    try:
        return decoders[name]()
    except ModuleNotFoundError as error:
        extra = "train" if name == "torchvision" else "bench"
        raise MissingExtra.for_feature(f"--decoder {name}", error.name, extra) from error


def _decode_cv2(data: bytes, options: DecodeOptions) -> Image:
    return decode_image(
        data,
        options.channels,
        keep_grey=True,
        reduce=options.reduce,
        max_pixels=options.max_pixels,
        bits=options.bits,
        note=options.note,
    )


def _or_cv2(kinds: tuple[str, ...], decode: Callable[[bytes, ImageHeader, DecodeOptions], NDArray[Any]]) -> Decoder:
    """Use ``decode`` for files of ``kinds``, and OpenCV for all others."""

    def decoder(data: bytes, options: DecodeOptions) -> Image:
        header = check_header(read_header(data), options.max_pixels)
        # The other libraries drop the low byte of 16 bits, or scale it in another way.
        if options.channels != 3 or header.kind not in kinds or header.bits > 8:
            return _decode_cv2(data, options)
        check_complete(header, data)
        if options.note is not None and len(header.pages) > 1:
            options.note("pages", len(header.pages))
        try:
            pixels = decode(data, header, options)
        except ImageError:
            raise
        except (OSError, ValueError, RuntimeError, SyntaxError) as error:  # Pillow: SyntaxError for a damaged PNG
            raise ImageError("is damaged or cut off") from error
        return np.ascontiguousarray(to_uint8(pixels))

    return decoder


def _pil() -> Decoder:
    import PIL.Image
    from PIL import ImageOps

    def decode(data: bytes, header: ImageHeader, options: DecodeOptions) -> NDArray[Any]:
        image: PIL.Image.Image
        with PIL.Image.open(BytesIO(data)) as image:
            if options.reduce > 1:
                # Only for JPEG: the smallest of 1, 1/2, 1/4, 1/8 that is at least this large.
                image.draft(None, (header.width // options.reduce, header.height // options.reduce))
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                pixels = np.asarray(image)
                return pixels.astype(np.uint16) if image.mode == "I" and header.kind != "tiff" else pixels
            if image.mode in ("1", "L", "LA"):
                return np.asarray(image.convert("L"))
            return np.asarray(image.convert("RGB"))[..., ::-1]

    return _or_cv2(("png", "jpeg", "tiff", "bmp", "webp"), decode)


def _turbojpeg() -> Decoder:
    import simplejpeg

    def decode(data: bytes, header: ImageHeader, options: DecodeOptions) -> NDArray[Any]:
        space = "GRAY" if header.channels == 1 else "BGR"
        height, width = (-(-side // options.reduce) for side in (header.height, header.width))
        # Not strict: that would reject files that every viewer shows, such as those with stray bytes before a marker.
        pixels = simplejpeg.decode_jpeg(data, space, min_height=height, min_width=width, strict=False)
        return rotate_upright(pixels, header.orientation)

    return _or_cv2(("jpeg",), decode)


def _torchvision() -> Decoder:
    import torch
    from torchvision import io as torchvision

    def decode(data: bytes, header: ImageHeader, options: DecodeOptions) -> NDArray[Any]:
        mode = torchvision.ImageReadMode.GRAY if header.channels in (1, 2) else torchvision.ImageReadMode.RGB
        # A copy, because torch does not accept read-only memory.
        planes = torchvision.decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode)
        # Not apply_exif_orientation, which ignores the tag of a WebP.
        pixels: NDArray[Any] = rotate_upright(planes.permute(1, 2, 0).numpy(), header.orientation)
        return pixels if pixels.shape[2] == 1 else pixels[..., ::-1]

    return _or_cv2(("jpeg", "png", "webp"), decode)
