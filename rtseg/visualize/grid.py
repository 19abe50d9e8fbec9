"""Several images side by side in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtseg.frame import Image
from rtseg.system.opencv import cv2

__all__ = ["Cell", "GridLayout", "draw_grid", "fit"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BACKGROUND = 24
"""Grey level of what no image covers."""
_WHITE, _GREY = (255, 255, 255), (170, 170, 170)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """What one source shows."""

    name: str
    image: Image | None
    """uint8 BGR, at most of the size of a cell; None if there is none that is new enough."""
    state: str = ""
    """Why there is no image."""


@dataclass(frozen=True, slots=True)
class GridLayout:
    """Rows and columns for a number of images, as square as possible.

    Raises:
        ValueError: there are no images.
    """

    count: int
    size: tuple[int, int] = (720, 1280)
    """(H, W) of the whole image, in pixels."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a grid needs at least one image, got {self.count}")

    @property
    def columns(self) -> int:
        """Images in a row."""
        return math.ceil(math.sqrt(self.count))

    @property
    def rows(self) -> int:
        """Rows of images."""
        return math.ceil(self.count / self.columns)

    @property
    def cell(self) -> tuple[int, int]:
        """(H, W) of a cell, in pixels."""
        return self.size[0] // self.rows, self.size[1] // self.columns


def fit(image: Image, size: tuple[int, int], pixel_aspect: float = 1.0) -> Image:
    """A copy of ``image``, uint8 BGR (H, W, 3), as large as fits into ``size`` (H, W), with square pixels."""
    height, width = image.shape[0], image.shape[1] * pixel_aspect
    scale = min(size[0] / height, size[1] / width)
    target = max(1, min(size[1], round(width * scale))), max(1, min(size[0], round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    fitted = np.empty((target[1], target[0], 3), np.uint8)
    cv2.resize(image, target, dst=fitted, interpolation=method)
    return fitted


def draw_grid(layout: GridLayout, cells: Sequence[Cell]) -> Image:
    """All cells in one image, uint8 BGR of ``layout.size``, in rows from the top left.

    A cell without an image is dark and says why: an old image must not look like a new one.
    """
    canvas = np.full((*layout.size, 3), _BACKGROUND, np.uint8)
    height, width = layout.cell
    for number, cell in enumerate(cells):
        top, left = number // layout.columns * height, number % layout.columns * width
        place = canvas[top : top + height, left : left + width]
        if cell.image is not None:
            rows, columns = cell.image.shape[:2]
            y, x = (height - rows) // 2, (width - columns) // 2
            place[y : y + rows, x : x + columns] = cell.image
        else:
            _write(place, cell.state, (width // 20, height // 2), _GREY, height)
        _write(place, cell.name, (width // 40 + 2, height - height // 30 - 4), _WHITE, height)  # a legend is above
        place[-1], place[:, -1] = 0, 0
    return canvas


def _write(place: Image, text: str, at: tuple[int, int], colour: tuple[int, int, int], height: int) -> None:
    """Write one line with a dark edge, cut off at the end of the cell. OpenCV's font has ASCII only."""
    scale = max(0.35, height / 600)
    text = text.encode("ascii", "replace").decode()
    line = np.ascontiguousarray(place)
    for drawn, thickness in (((0, 0, 0), 3), (colour, 1)):
        cv2.putText(line, text, at, _FONT, scale, drawn, thickness, cv2.LINE_AA)
    place[:] = line
