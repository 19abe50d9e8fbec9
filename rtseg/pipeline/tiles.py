"""Labels a large image tile by tile, so that memory does not grow with the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from rtseg.errors import OptionError
from rtseg.frame import Image, Labels

__all__ = ["label_tiles", "tile_ranges"]

Window = tuple[int, int, int, int]
"""top, left, height, width in pixels."""


def tile_ranges(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Divide an axis into tiles that overlap, and give every pixel to the tile in whose middle it is.

    All tiles have the same length; the last one ends with the axis, so it may overlap more.

    Args:
        length: of the axis, in pixels.
        tile: length of a tile.
        overlap: how much neighbours share at least.

    Yields:
        Start and end of a tile, then of the pixels that are taken from it.
    """
    if length <= tile:
        yield 0, length, 0, length
        return
    count = -(-(length - overlap) // (tile - overlap))
    starts = [min(number * (tile - overlap), length - tile) for number in range(count)]
    borders = [0, *((before + tile + after) // 2 for before, after in pairwise(starts)), length]
    for number, start in enumerate(starts):
        yield start, start + tile, borders[number], borders[number + 1]


def label_tiles(
    size: tuple[int, int],
    tile: int,
    overlap: int,
    read: Callable[[Window], Image],
    predict: Callable[[Image], Labels],
    write: Callable[[int, int, Labels], None],
) -> None:
    """Label an image of ``size`` tile by tile. The labels of a pixel are those of the tile in whose middle it is.

    A label then depends on at least half the overlap of pixels around it, as long as the image has them: with an
    overlap of twice what the network sees, there are no seams. Model files give labels and no scores, so scores cannot
    be blended.

    Args:
        size: (H, W) of the image, in pixels.
        tile: side of a tile, in pixels; those at an image smaller than that are smaller.
        overlap: how much neighbours share, in pixels.
        read: returns a window of the image, uint8 (h, w, C).
        predict: returns the class IDs of a window, uint8 (h, w).
        write: gets the top and left of class IDs, and these, uint8 (h, w); each pixel once.

    Raises:
        OptionError: ``overlap`` is negative or more than half of ``tile``.
    """
    if not 0 <= 2 * overlap <= tile:
        raise OptionError(f"--overlap must be at most half of --tiles, {tile // 2}; got {overlap}")
    for top, bottom, first_row, end_row in tile_ranges(size[0], tile, overlap):
        for left, right, first_column, end_column in tile_ranges(size[1], tile, overlap):
            labels = predict(read((top, left, bottom - top, right - left)))
            own = labels[first_row - top : end_row - top, first_column - left : end_column - left]
            write(first_row, first_column, own)
