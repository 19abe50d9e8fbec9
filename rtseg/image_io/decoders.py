"""The libraries that turn the bytes of an image file into pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import MissingExtra
from rtseg.frame import Image
from rtseg.image_io.decode import ImageError, check_head, decode_image, eight_bits, refuse_cut_jpeg
from rtseg.image_io.header import Head, read_head

__all__ = ["Decoder", "Wanted", "open_decoder"]

_Turn = Callable[[Any], Any]
_TURNS: dict[int, _Turn] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}
"""What makes an image upright, by the orientation of its EXIF tag. Source: EXIF 2.32, 4.6.4, tag 0x0112."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made of a file; see ``decode_image``. Grey stays grey."""

    channels: int = 3
    reduce: int = 1
    max_pixels: int = 2**27


Decoder = Callable[[bytes, Wanted], Image]
"""The image in a file, uint8 (H, W, C), turned as its EXIF tag asks; C is 1 for grey where 3 channels are wanted.

Raises:
    ImageError: it cannot be used.
"""


def open_decoder(name: str) -> Decoder:
    """The decoder ``name``, one of ``rtseg.image_io.options.DECODERS``, with its library loaded.

    A plane beside the colours is read by cv2 alone, and so is every kind of file that the library does not read:
    ``turbojpeg`` decodes JPEG, ``torchvision`` JPEG, PNG and WebP, ``pil`` all.

    Raises:
        MissingExtra: the library is not installed.
    """
    makers = {"cv2": lambda: _cv2, "pil": _open_pil, "turbojpeg": _open_turbojpeg, "torchvision": _open_torchvision}
    try:
        return makers[name]()
    except ModuleNotFoundError as error:
        extra = "train" if name == "torchvision" else "bench"
        raise MissingExtra.of(f"--decoder {name}", error.name, extra) from error


def _cv2(data: bytes, wanted: Wanted) -> Image:
    return decode_image(data, wanted.channels, keep_grey=True, reduce=wanted.reduce, max_pixels=wanted.max_pixels)


def _by(kinds: tuple[str, ...], decode: Callable[[bytes, Head, Wanted], NDArray[Any]]) -> Decoder:
    """``decode`` for files of ``kinds``, cv2 for all others."""

    def decoder(data: bytes, wanted: Wanted) -> Image:
        head = check_head(read_head(data), wanted.max_pixels)
        if wanted.channels != 3 or head.kind not in kinds:
            return _cv2(data, wanted)
        if head.kind == "jpeg":
            refuse_cut_jpeg(data)
        try:
            stored = decode(data, head, wanted)
        except ImageError:
            raise
        except (OSError, ValueError, RuntimeError, SyntaxError) as error:  # SyntaxError: Pillow, of a broken PNG
            raise ImageError("is damaged or cut off") from error
        return np.ascontiguousarray(eight_bits(stored))

    return decoder


def _open_pil() -> Decoder:
    import PIL.Image
    from PIL import ImageOps

    def decode(data: bytes, head: Head, wanted: Wanted) -> NDArray[Any]:
        image: PIL.Image.Image
        with PIL.Image.open(BytesIO(data)) as image:
            if wanted.reduce > 1:
                # Of JPEGs alone: the smallest of 1, 1/2, 1/4, 1/8 that is at least so large.
                image.draft(None, (head.width // wanted.reduce, head.height // wanted.reduce))
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                pixels = np.asarray(image)
                return pixels.astype(np.uint16) if image.mode == "I" and head.kind != "tiff" else pixels
            if image.mode in ("1", "L", "LA"):
                return np.asarray(image.convert("L"))
            return np.asarray(image.convert("RGB"))[..., ::-1]

    return _by(("png", "jpeg", "tiff", "bmp", "webp", "pnm"), decode)


def _open_turbojpeg() -> Decoder:
    import simplejpeg

    def decode(data: bytes, head: Head, wanted: Wanted) -> NDArray[Any]:
        space = "GRAY" if head.channels == 1 else "BGR"
        # strict would refuse what every viewer shows, as stray bytes before a marker.
        height, width = (-(-side // wanted.reduce) for side in (head.height, head.width))
        stored = simplejpeg.decode_jpeg(data, space, min_height=height, min_width=width, strict=False)
        turned: NDArray[Any] = _TURNS[head.orientation](stored)
        return turned

    return _by(("jpeg",), decode)


def _open_torchvision() -> Decoder:
    import torch
    from torchvision import io as torchvision

    def decode(data: bytes, head: Head, wanted: Wanted) -> NDArray[Any]:
        mode = torchvision.ImageReadMode.GRAY if head.channels in (1, 2) else torchvision.ImageReadMode.RGB
        # Of a copy: torch takes no memory that cannot be written to.
        planes = torchvision.decode_image(
            torch.frombuffer(bytearray(data), dtype=torch.uint8), mode, apply_exif_orientation=True
        )
        pixels: NDArray[Any] = planes.permute(1, 2, 0).numpy()
        return pixels if pixels.shape[2] == 1 else pixels[..., ::-1]

    return _by(("jpeg", "png", "webp"), decode)
