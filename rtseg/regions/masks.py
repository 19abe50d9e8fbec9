"""The regions of a run as masks. They can be replaced while it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from rtseg.errors import OptionError
from rtseg.frame import Labels
from rtseg.model_file.spec import VOID
from rtseg.regions.region import Region
from rtseg.system.opencv import cv2

__all__ = ["RegionMask", "Regions"]

_MOST_SIZES = 4


@dataclass(frozen=True, slots=True, eq=False)
class RegionMask:
    """The pixels of a region: a box, and which pixels of it are inside."""

    rows: slice
    columns: slice
    inside: Labels
    """255 for pixels inside and 0 for others, uint8, in the size of the box."""

    def crop(self, labels: Labels) -> Labels:
        """Labels of the box, uint8; void (255) outside of the region. A new array."""
        return np.asarray(cv2.bitwise_or(labels[self.rows, self.columns], cv2.bitwise_not(self.inside)), np.uint8)


@dataclass(slots=True)
class _Masks:
    outside: Labels | None
    """255 outside of all regions without a name, else 0; None if there is no such region."""
    named: dict[str, RegionMask]


@dataclass(slots=True)
class _Current:
    """One set of regions with what was computed for it. Replaced as a whole."""

    regions: tuple[Region, ...]
    first_size: tuple[int, int] | None = None
    """Size (H, W) of the frames whose pixels the regions are given in."""
    masks: dict[tuple[int, int], _Masks] = field(default_factory=dict)


class Regions:
    """The regions of one run. Any thread may call any method.

    Coordinates in pixels are those of the first frame; where the frames change their size, the regions are scaled.
    """

    def __init__(self, regions: Iterable[Region] = ()) -> None:
        self._lock = Lock()
        self._current = _Current(tuple(regions))

    @property
    def all(self) -> tuple[Region, ...]:
        """The present regions."""
        return self._current.regions

    @property
    def names(self) -> list[str]:
        """Of the regions that have one, in their order."""
        return [region.name for region in self._current.regions if region.name]

    def replace(self, regions: Iterable[Region]) -> None:
        """Use other regions from the next frame on. Their pixels are those of the latest size of frames.

        Raises:
            OptionError: one reaches beyond the frame, or two have the same name; the earlier regions stay in use.
        """
        new = _Current(tuple(regions))
        names = [region.name for region in new.regions if region.name]
        if len(set(names)) < len(names):
            raise OptionError("two regions have the same name: give each a name of its own")
        with self._lock:
            sizes = list(self._current.masks)
            if sizes:
                self._masks(sizes[-1], new)
            self._current = new

    def limit(self, labels: Labels) -> Labels:
        """Make everything void (255) that is outside of all regions without a name.

        Args:
            labels: class IDs, uint8 (H, W), in the size of the frame. They are not changed.

        Raises:
            OptionError: a region reaches beyond the frame.
        """
        outside = self._get(labels.shape).outside
        return labels if outside is None else np.asarray(cv2.bitwise_or(labels, outside), np.uint8)

    def named(self, size: tuple[int, ...]) -> dict[str, RegionMask]:
        """The masks of the regions with a name, for frames of ``size`` = (H, W).

        Raises:
            OptionError: a region reaches beyond the frame.
        """
        return self._get(size).named

    def _get(self, size: tuple[int, ...]) -> _Masks:
        with self._lock:
            return self._masks((size[0], size[1]), self._current)

    def _masks(self, size: tuple[int, int], current: _Current) -> _Masks:
        if size in current.masks:
            current.masks[size] = current.masks.pop(size)  # the latest size is the last one
            return current.masks[size]
        first_size = current.first_size or size
        regions = [region.in_pixels(first_size).scaled(first_size, size) for region in current.regions]
        limits = [_fill(region, size) for region in regions if not region.name]
        outside = np.asarray(cv2.bitwise_not(np.maximum.reduce(limits)), np.uint8) if limits else None
        masks = _Masks(outside, {region.name: _crop(region, size) for region in regions if region.name})
        current.first_size = first_size
        current.masks = dict(list(current.masks.items())[1 - _MOST_SIZES :]) | {size: masks}
        return masks


def _fill(region: Region, size: tuple[int, int]) -> Labels:
    """255 for the pixels whose centres are inside, else 0, uint8 (H, W).

    By the even-odd rule. Neighbours share no pixel, which OpenCV's fillPoly does not promise: it also fills the border.
    """
    height, width = size
    crossings = np.zeros((height, width + 1), np.uint8)
    centres = np.arange(height) + 0.5
    points = np.array(region.points)
    for (x, y), (next_x, next_y) in zip(points, np.roll(points, -1, axis=0), strict=True):
        (rows,) = np.nonzero((centres >= min(y, next_y)) & (centres < max(y, next_y)))
        at_x = x + (centres[rows] - y) * (next_x - x) / (next_y - y) if len(rows) else centres[:0]
        columns = np.clip(np.ceil(at_x - 0.5), 0, width).astype(np.intp)
        crossings[rows, columns] ^= 1
    return np.bitwise_xor.accumulate(crossings, axis=1)[:, :width] * np.uint8(VOID)


def _crop(region: Region, size: tuple[int, int]) -> RegionMask:
    mask = _fill(region, size)
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        raise OptionError(f"{region.label} holds no pixel of a frame of {size[1]}x{size[0]}: make it larger")
    rows, columns = slice(top, top + height), slice(left, left + width)
    return RegionMask(rows, columns, np.ascontiguousarray(mask[rows, columns]))
