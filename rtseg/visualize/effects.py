"""Changes to an image that depend on its labels: blur what nobody should see, replace the background."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import numpy as np

from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

__all__ = ["Blur", "Effect", "ReplaceBackground"]

Effect = Callable[[Image, Labels], Image]
"""Returns a changed copy of an image, BGR uint8 (H, W, 3), or the image itself if nothing is to be changed."""

_MARGIN: Final = 0.02
"""Width of the band around a class that is blurred too, relative to the shorter side of the image."""
_CELLS: Final = 8
"""Largest number of cells that a blurred area has in each direction: too few to recognize a face."""
_SMALLEST_CELL: Final = 0.022
"""Smallest size of a cell, relative to the shorter side of the image."""
_STEP: Final = 4
"""Areas are found at a quarter of the size. The margin is wide enough that none is missed."""
_SOFT_EDGE_PX: Final = 1.0


class Blur:
    """Makes everything of some classes unrecognizable.

    Each connected area, with a band around it, is reduced to at most 8x8 colours, which are drawn without steps. A
    larger area gets larger cells, so that a face near the camera is not clearer than one far away. Void pixels, whose
    class is unknown, are blurred too. What the model does not label as one of the classes stays visible.

    Args:
        classes: IDs of the classes.
    """

    def __init__(self, classes: Collection[int]) -> None:
        self._lut = _table({*classes, VOID})

    def __call__(self, image: Image, labels: Labels) -> Image:
        """See ``Effect``."""
        region = np.asarray(cv2.LUT(labels, self._lut), np.uint8)
        if not cv2.hasNonZero(region):
            return image
        height, width = labels.shape
        short = min(height, width)
        margin = max(_STEP, round(_MARGIN * short))
        square = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
        region = np.asarray(cv2.dilate(region, square), np.uint8)
        changed = image.copy()
        _, _, boxes, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(region[::_STEP, ::_STEP]))
        for left, top, box_width, box_height, _ in (_STEP * boxes[1:]).tolist():
            x = slice(max(0, left - _STEP), min(width, left + box_width + _STEP))
            y = slice(max(0, top - _STEP), min(height, top + box_height + _STEP))
            size = (x.stop - x.start, y.stop - y.start)
            cell = max(_SMALLEST_CELL * short, *(length / _CELLS for length in size))
            few = cv2.resize(image[y, x], _cells(size, cell), interpolation=cv2.INTER_AREA)
            smooth = cv2.resize(few, size, interpolation=cv2.INTER_LINEAR)
            np.copyto(changed[y, x], smooth.astype(np.uint8, copy=False), where=region[y, x, None] != 0)
        return changed


def _cells(size: tuple[int, int], cell: float) -> tuple[int, int]:
    return max(1, int(size[0] / cell)), max(1, int(size[1] / cell))


class ReplaceBackground:
    """Puts another image behind the pixels of some classes, with a soft edge of about one pixel.

    Args:
        background: BGR, uint8 (H, W, 3). Its middle is scaled to the size of the images.
        kept: IDs of the classes in front of it. Void pixels belong to the background.
    """

    def __init__(self, background: Image, kept: Collection[int]) -> None:
        self._background = self._fitted = background
        self._lut = _table(kept)

    def __call__(self, image: Image, labels: Labels) -> Image:
        """See ``Effect``."""
        if self._fitted.shape != image.shape:
            self._fitted = _cover(self._background, labels.shape[0], labels.shape[1])
        kept = np.asarray(cv2.LUT(labels, self._lut), np.uint8)
        weight = np.asarray(cv2.GaussianBlur(kept, (0, 0), _SOFT_EDGE_PX), np.uint8).astype(np.float32)
        return np.asarray(cv2.blendLinear(image, self._fitted, weight, 255 - weight), np.uint8)


def _cover(image: Image, height: int, width: int) -> Image:
    """Scale ``image`` so that it covers (``height``, ``width``), and cut off what is too much on both sides."""
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(scale * image.shape[1])), max(height, round(scale * image.shape[0])))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width]).astype(np.uint8, copy=False)


def _table(classes: Collection[int]) -> Labels:
    table = np.zeros(256, np.uint8)
    table[list(classes)] = 255
    return table
