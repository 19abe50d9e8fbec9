"""The outlines of labelled areas, along the edges of their pixels, with holes.

OpenCV's contours run through the centres of the border pixels, so that filling them does not return the area. These
run along pixel edges: filling them returns every pixel. Simplified, they are OpenCV's ``approxPolyDP`` of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels
from rtseg.system.opencv import cv2

__all__ = ["Outline", "Ring", "fill_rings", "single_ring", "trace_outlines"]

Ring = NDArray[np.float64]
"""Corners of a closed line, x and y in pixels, (N, 2). The first corner is not repeated at the end."""

_EAST, _SOUTH, _WEST, _NORTH = range(4)
_CONVEX = ((_SOUTH, _WEST), (_WEST, _NORTH), (_NORTH, _EAST), (_EAST, _SOUTH))
"""Directions in which the line comes and leaves, with the area to its right, where only one of the four pixels around
a corner belongs to the area: north-west, north-east, south-east or south-west."""
_CONCAVE = ((_EAST, _NORTH), (_SOUTH, _EAST), (_WEST, _SOUTH), (_NORTH, _WEST))
"""The same where this pixel does not belong to the area and those on both sides of it do. Where the area meets itself
in one corner there are two of these: the lines around the two other pixels only touch there."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """The outline of one connected area (4-connected) of one class."""

    class_id: int
    exterior: Ring
    """Clockwise on the screen."""
    holes: tuple[Ring, ...]
    """Counter-clockwise on the screen."""
    area: int
    """Pixels of the area."""

    @property
    def rings(self) -> tuple[Ring, ...]:
        """The exterior, then the holes."""
        return self.exterior, *self.holes

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height of the smallest box around the exterior, in pixels."""
        (left, top), (right, bottom) = self.exterior.min(axis=0).tolist(), self.exterior.max(axis=0).tolist()
        return left, top, right - left, bottom - top


def trace_outlines(labels: Labels, classes: int, tolerance: float = 0.0) -> Iterator[Outline]:
    """Yield the outline of every connected area, by class.

    Without a tolerance every ring is simple, rings of one outline touch in single points at most, and ``fill_rings``
    returns exactly the pixels of the area.

    Args:
        labels: class IDs, uint8 (H, W). IDs of ``classes`` or more are left out.
        classes: number of classes.
        tolerance: largest distance of a simplified line from the exact one, in pixels. Areas and holes that have no
            extent then are left out, and simplified outlines may overlap their neighbours by as much.
    """
    components, owners = _components(labels, classes)
    rings: dict[int, list[Ring]] = {}
    for component, ring in _rings(components):
        rings.setdefault(component, []).append(ring)
    for component in sorted(rings):
        # The only ring with the area inside has the largest extent.
        extents = [_signed_area(ring) for ring in rings[component]]
        exterior = rings[component].pop(extents.index(max(extents)))
        simple = _simplified(exterior, tolerance)
        if simple is not None:
            holes = [ring for ring in (_simplified(hole, tolerance) for hole in rings[component]) if ring is not None]
            yield Outline(owners[component], simple, tuple(holes), round(sum(extents)))


def _components(labels: Labels, classes: int) -> tuple[NDArray[np.int32], list[int]]:
    """Number the connected areas of all classes from 1; return the map, int32 (H, W), and the class of each area."""
    components = np.zeros(labels.shape, np.int32)
    owners = [-1]
    for class_id in np.unique(labels).tolist():
        if class_id >= classes:
            continue
        everywhere = labels == class_id
        left, top, width, height = cv2.boundingRect(everywhere.view(np.uint8))
        box = (slice(top, top + height), slice(left, left + width))
        mask = np.ascontiguousarray(everywhere[box])
        # With its statistics it would take four times as long.
        count, numbers = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
        np.add(numbers, len(owners) - 1, out=components[box], where=mask)
        owners += [class_id] * (count - 1)
    return components, owners


def _rings(components: NDArray[np.int32]) -> Iterator[tuple[int, Ring]]:
    """Yield the component and the corners of every closed line around a component of ``components``."""
    x, y, component, came, leaves = _corners(components)
    following = np.empty(len(x), np.int64)
    for direction in range(4):
        starts, ends = np.flatnonzero(leaves == direction), np.flatnonzero(came == direction)
        # The lines of one component in one direction on one grid line follow each other without overlap, so that the
        # n-th start belongs to the n-th end.
        line, place = (y, x) if direction in (_EAST, _WEST) else (x, y)
        starts = starts[np.lexsort((place[starts], component[starts], line[starts]))]
        ends = ends[np.lexsort((place[ends], component[ends], line[ends]))]
        following[starts] = ends
    points = np.column_stack((x, y)).astype(np.float64)
    next_corner, seen = following.tolist(), bytearray(len(x))
    for first in range(len(x)):
        if seen[first]:
            continue
        ring, corner = [], first
        while not seen[corner]:
            seen[corner] = 1
            ring.append(corner)
            corner = next_corner[corner]
        yield int(component[first]), points[ring]


def _corners(components: NDArray[np.int32]) -> tuple[NDArray[np.int64], ...]:
    """Return x, y, component, direction of arrival and direction of leaving of every corner of a line."""
    padded = np.pad(components, 1)
    northwest, northeast, southwest, southeast = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    across, down = padded[:, 1:] != padded[:, :-1], padded[1:] != padded[:-1]
    y, x = np.nonzero((across[:-1] | across[1:]) & (down[:, :-1] | down[:, 1:]))
    cells = [cell[y, x] for cell in (northwest, northeast, southeast, southwest)]
    found = []
    for place in (2, 3, 0, 1):  # so that a ring begins in its upper left corner
        cell, after, opposite, before = (cells[(place + step) % 4] for step in range(4))
        convex = (cell > 0) & (after != cell) & (before != cell) & (opposite != cell)
        concave = (after > 0) & (after == before) & (cell != after)
        for chosen, owner, (came, leaves) in ((convex, cell, _CONVEX[place]), (concave, after, _CONCAVE[place])):
            at = np.flatnonzero(chosen)
            found.append(np.stack((x[at], y[at], owner[at], np.full_like(at, came), np.full_like(at, leaves))))
    return tuple(np.concatenate(found, axis=1))


def _signed_area(ring: Ring) -> float:
    """Area inside ``ring`` in pixels, negative for holes."""
    x, y = ring[:, 0], ring[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _simplified(ring: Ring, tolerance: float) -> Ring | None:
    """``ring`` with fewer corners; None if nothing is left of it."""
    if not tolerance:
        return ring
    simple = cv2.approxPolyDP(ring.astype(np.int32), tolerance, closed=True)[:, 0].astype(np.float64)
    return simple if len(simple) > 2 and _signed_area(simple) else None


def single_ring(outline: Outline) -> Ring:
    """Join the rings of ``outline`` by lines of no width, for formats without holes.

    Filled by the even-odd rule, as ``fill_rings`` and the COCO API do, it covers the same pixels.
    """
    ring = outline.exterior
    for hole in outline.holes:
        start = int(hole[:, 0].argmin())
        near = int(((ring - hole[start]) ** 2).sum(axis=1).argmin())
        ring = np.concatenate((ring[: near + 1], hole[start:], hole[: start + 1], ring[near:]))
    return ring


def fill_rings(rings: tuple[Ring, ...] | list[Ring], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centre is inside ``rings`` by the even-odd rule, bool (H, W) of ``size``.

    Parts outside of the image are cut off.

    Raises:
        ValueError: a coordinate is infinite, NaN, or farther than 2**20 pixels from the image.
    """
    height, width = size
    starts = np.concatenate(rings)
    if not (np.abs(starts) < 1 << 20).all():
        raise ValueError("a corner of a polygon is not near the image")
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    downward = (starts[:, 1] <= ends[:, 1])[:, None]
    upper, lower = np.where(downward, starts, ends), np.where(downward, ends, starts)
    # Row r has its centre at r + 0.5: a line from y0 to y1 crosses the rows ceil(y0 - 0.5) to ceil(y1 - 0.5) - 1.
    first, last = (np.clip(np.ceil(part[:, 1] - 0.5), 0, height).astype(np.int64) for part in (upper, lower))
    counts = last - first
    line = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[line]
    (x0, y0), (x1, y1) = upper[line].T, lower[line].T
    column = np.clip(np.ceil(x0 + (x1 - x0) * (row + 0.5 - y0) / (y1 - y0) - 0.5), 0, width).astype(np.int64)
    crossings = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.asarray(np.cumsum(crossings, axis=1)[:, :width] % 2 == 1)
