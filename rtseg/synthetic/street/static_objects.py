"""Objects that do not move: houses, trees, street lamps, signs, fences.

Every object has a position ``z``, which sorts objects from far to near, and draws itself with a ``Painter``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from rtseg.synthetic.street.appearance import Colours
from rtseg.synthetic.street.canvas import NEAR_M, Painter, Points, Texture
from rtseg.synthetic.street.class_ids import BUILDING, POLE, SIGN, TREE

__all__ = ["Barrier", "Bollard", "House", "Sign", "StreetLamp", "StreetObject", "Tree", "rectangle", "regular_polygon"]

_DETAIL_M = 60.0
"""Beyond this depth, details of a pixel or less are omitted."""


class StreetObject(Protocol):
    """A visible object at one moment."""

    @property
    def z(self) -> float:
        """Position along the road in metres; the far end of a house, fence or hedge, the near end of a vehicle."""

    def draw(self, painter: Painter) -> None:
        """Add the object to the painter."""


def regular_polygon(radius: float, corners: int = 12) -> Points:
    """Return a regular polygon around the origin: float64 (corners, 2)."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    """Return the corners of a rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


@dataclass(frozen=True, slots=True, eq=False)
class House:
    """A house whose facade faces the street."""

    side: int
    x: float
    """Position of the facade."""
    near_z: float
    z: float
    height: float
    facade: Texture
    wall: Colours
    """Colour of the end wall, including light."""
    roof: Colours | None
    """Colour of a pitched roof; None means a flat roof."""

    def draw(self, painter: Painter) -> None:
        """Add roof, end wall, facade and chimney."""
        clipped_m = painter.camera.z + NEAR_M - self.near_z
        end_visible, pitched = clipped_m <= 0, self.roof is not None
        roof, gable, chimney = _house_faces(self.side, self.height, self.z - self.near_z, pitched)
        if self.roof is not None:
            painter.add_mesh(roof, (4,), self.roof[None], BUILDING, self.x, self.near_z)
        if end_visible:
            painter.add_mesh(gable, (5,), self.wall[None], BUILDING, self.x, self.near_z)
        painter.add_wall(self.facade, self.x, self.near_z, self.z, 0.0, self.height)
        if pitched and end_visible and -clipped_m < _DETAIL_M:
            painter.add_mesh(chimney, (4,), self.wall[None] * 0.8, BUILDING, self.x, self.near_z)


@lru_cache(maxsize=512)
def _house_faces(side: int, height: float, length: float, pitched: bool) -> tuple[Points, Points, Points]:
    """Return roof (4, 3), end wall (5, 2) and chimney (4, 2), relative to the near corner of the facade."""
    ridge = height + (2.6 if pitched else 0.0)
    eaves = -0.3 * side
    roof = [
        (eaves, height, 0.0),
        (eaves, height, length),
        (4.0 * side, ridge, length),
        (4.0 * side, ridge, 0.0),
    ]
    gable = [(0.0, 0.0), (0.0, height), (4.0 * side, ridge), (8.0 * side, height), (8.0 * side, 0.0)]
    chimney = rectangle(4.0 * side - 0.5, ridge - 0.6, 4.0 * side + 0.5, ridge + 1.1)
    return np.array(roof), np.array(gable), np.array(chimney)


@dataclass(frozen=True, slots=True, eq=False)
class Barrier:
    """A fence or a hedge along the street."""

    x: float
    near_z: float
    z: float
    texture: Texture

    def draw(self, painter: Painter) -> None:
        """Add one textured plane."""
        painter.add_wall(self.texture, self.x, self.near_z, self.z, 0.05, self.texture.size_m[0])


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A tree with a trunk and a crown."""

    x: float
    z: float
    height: float
    crown: Texture
    bark: Colours

    def draw(self, painter: Painter) -> None:
        """Add the trunk, then the crown as a billboard."""
        size = self.height * 0.72
        thick = 0.022 * self.height
        trunk = np.array([(-thick, 0), (thick, 0), (thick * 0.7, self.height * 0.6), (-thick * 0.7, self.height * 0.6)])
        lit = trunk * (0.4, 1.0) + (thick * 0.5, 0)
        colours = np.array([self.bark, self.bark * 1.3])
        painter.add_mesh(np.concatenate([trunk, lit]), (4, 8), colours, TREE, self.x, self.z)
        painter.add_billboard(self.crown, self.x, self.z, self.height - size, size, size * 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class StreetLamp:
    """A street lamp with an arm over the road."""

    side: int
    x: float
    z: float
    height: float
    colour: Colours

    def draw(self, painter: Painter) -> None:
        """Add base, post, arm and lamp."""
        h, inward = self.height, -float(self.side)
        shape = [
            *rectangle(-0.11, 0, 0.11, 1.2),
            *[(-0.08, 1.2), (0.08, 1.2), (0.05, h), (-0.05, h)],
            *[(0, h - 0.08), (inward * 1.4, h + 0.25), (inward * 1.4, h + 0.35), (0, h + 0.04)],
            *[
                (inward * 1.2, h + 0.2),
                (inward * 2.0, h + 0.26),
                (inward * 2.0, h + 0.4),
                (inward * 1.2, h + 0.42),
            ],
        ]
        colours = np.array([self.colour * 0.9, self.colour, self.colour, self.colour * 1.2])
        painter.add_mesh(np.array(shape), (4, 8, 12, 16), colours, POLE, self.x, self.z)


@dataclass(frozen=True, slots=True, eq=False)
class Bollard:
    """A bollard."""

    x: float
    z: float
    height: float
    colour: Colours

    def draw(self, painter: Painter) -> None:
        """Add the post and its reflective band."""
        h = self.height
        shape = np.array([*rectangle(-0.09, 0, 0.09, h), *rectangle(-0.09, h * 0.75, 0.09, h * 0.88)])
        colours = np.array([self.colour, np.full(3, 220.0)])
        painter.add_mesh(shape, (4, 8), colours, POLE, self.x, self.z)


_RED = np.array([40.0, 35.0, 200.0])
_WHITE = np.array([240.0, 240.0, 240.0])
_BLUE = np.array([180.0, 90.0, 20.0])
_DARK = np.array([35.0, 35.0, 35.0])


@dataclass(frozen=True, slots=True, eq=False)
class Sign:
    """A traffic sign or a traffic light on a post."""

    x: float
    z: float
    height: float
    """Height of the centre of the sign."""
    kind: str
    """``prohibition``, ``warning``, ``mandatory``, ``board`` or ``traffic_light``."""
    tint: Colours
    """Colour of a board. For a traffic light, the lamp that is on: one-hot for red, amber, green."""

    def draw(self, painter: Painter) -> None:
        """Add the post, then the sign."""
        depth = painter.camera.depth(self.z)
        post = np.array(rectangle(-0.05, 0, 0.05, self.height))
        grey = _DARK if self.kind == "traffic_light" else np.full(3, 120.0)
        painter.add_mesh(post, (4,), grey[None], POLE, self.x, self.z)
        points, ends, colours = self._face()
        if depth > _DETAIL_M:
            ends = ends[:2]
        painter.add_mesh(points + np.array((0.0, self.height)), ends, colours, SIGN, self.x, self.z)

    def _face(self) -> tuple[Points, list[int], Colours]:
        """Return vertices relative to the sign's centre, the end of each face, and its colour."""
        if self.kind == "traffic_light":
            housing = np.array(rectangle(-0.2, -0.5, 0.2, 0.55))
            lamps = [regular_polygon(0.12, 8) + np.array((0.0, y)) for y in (0.33, 0.0, -0.33)]
            colours = np.array([(50.0, 50, 255), (40, 180, 255), (120, 255, 60)])
            colours = colours * np.where(self.tint > 0, 1.0, 0.25)[:, None]
            return np.concatenate([housing, *lamps]), [4, 12, 20, 28], np.array([_DARK, *colours])
        if self.kind == "warning":
            outer = np.array([(-0.5, -0.4), (0.5, -0.4), (0.0, 0.5)])
            parts = [outer, outer * 0.7, np.array(rectangle(-0.04, -0.2, 0.04, 0.15))]
            return np.concatenate(parts), [3, 6, 10], np.array([_RED, _WHITE, _DARK])
        if self.kind == "board":
            parts = [np.array(rectangle(-0.55, -0.45, 0.55, 0.45)), np.array(rectangle(-0.5, -0.4, 0.5, 0.4))]
            parts += [np.array(rectangle(-0.4, y, 0.35, y + 0.1)) for y in (-0.25, 0.0, 0.2)]
            return np.concatenate(parts), [4, 8, 12, 16, 20], np.array([_WHITE, self.tint, _WHITE, _WHITE, _WHITE])
        colours = np.array([_RED, _WHITE, _DARK] if self.kind == "prohibition" else [_WHITE, _BLUE, _WHITE])
        parts = [regular_polygon(0.38, 20), regular_polygon(0.29, 20), np.array(rectangle(-0.2, -0.05, 0.2, 0.06))]
        return np.concatenate(parts), [20, 40, 44], colours
