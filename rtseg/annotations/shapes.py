"""Annotated areas as files of other tools hold them, and the labels that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.annotations.outlines import Ring, fill_rings
from rtseg.annotations.rle import decode_counts, decode_string
from rtseg.errors import DatasetError
from rtseg.frame import Labels

__all__ = ["AnnotatedImage", "Annotations", "Bitmap", "Polygon", "Runs", "Shape", "paint"]


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """The inside of closed lines by the even-odd rule."""

    label: str
    rings: tuple[Ring, ...]

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The pixels whose centre is inside, bool (H, W) of ``size``; ValueError if a corner is far away."""
        return fill_rings(self.rings, size)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Run-length codes of COCO for the whole image, as numbers or as text."""

    label: str
    counts: str | tuple[int, ...]

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask, bool (H, W) of ``size``; ValueError if the codes do not fill it."""
        counts = decode_string(self.counts) if isinstance(self.counts, str) else np.array(self.counts, np.int64)
        return decode_counts(counts, size)


@dataclass(frozen=True, slots=True, eq=False)
class Bitmap:
    """A mask of a part of the image."""

    label: str
    left: int
    top: int
    pixels: NDArray[np.bool_]

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask, bool (H, W) of ``size``; ValueError if it extends beyond the image."""
        bottom, right = self.top + self.pixels.shape[0], self.left + self.pixels.shape[1]
        if self.left < 0 or self.top < 0 or bottom > size[0] or right > size[1]:
            raise ValueError("a mask extends beyond the image")
        mask = np.zeros(size, bool)
        mask[self.top : bottom, self.left : right] = self.pixels
        return mask


Shape = Polygon | Runs | Bitmap


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """An image and the areas on it."""

    name: str
    """Path of the image, relative to a folder that the file does not name or to the file."""
    size: tuple[int, int]
    """(H, W), in pixels."""
    shapes: tuple[Shape, ...]
    """A later one lies on top of earlier ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """The content of an annotation file or folder."""

    colours: Mapping[str, tuple[int, int, int] | None]
    """The classes in their order, with their RGB colour if the file has one."""
    images: tuple[AnnotatedImage, ...]


def paint(image: AnnotatedImage, class_ids: Mapping[str, int], fill: int, source: Path) -> Labels:
    """Return the labels of an image, uint8 (H, W).

    Args:
        image: size and areas.
        class_ids: by label; areas with another label are left out.
        fill: class ID where there is no area.
        source: the annotation file, for messages.

    Raises:
        DatasetError: an area is not valid.
    """
    labels = np.full(image.size, fill, np.uint8)
    for shape in image.shapes:
        if shape.label in class_ids:
            try:
                labels[shape.mask(image.size)] = class_ids[shape.label]
            except (ValueError, OverflowError) as error:
                raise DatasetError(f"{source}: {shape.label!r} of {image.name} is not valid: {error}") from error
    return labels
