"""Decoding with torchvision: the one file of the sources that loads torch, and only when it is asked for by name."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torchvision.io import ImageReadMode, decode_image

from rtseg._heads import Head

__all__ = ["decode"]


def decode(data: bytes, head: Head, wanted: object) -> NDArray[Any]:
    """Pixels of a JPEG, PNG or WebP, uint8 or uint16 (H, W, C), grey or BGR, upright.

    Raises:
        RuntimeError: the file is damaged.
    """
    mode = ImageReadMode.GRAY if head.channels in (1, 2) else ImageReadMode.RGB
    # Of a copy: torch takes no memory that cannot be written to.
    planes = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode, apply_exif_orientation=True)
    pixels: NDArray[Any] = planes.permute(1, 2, 0).numpy()
    return pixels if pixels.shape[2] == 1 else pixels[..., ::-1]
