"""What stands still along the street: houses, trees, lamps, signs, fences.

Every thing has a place ``z`` that orders it from far to near, and draws itself with a pen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from rtseg.synthetic.street.appearance import Colours
from rtseg.synthetic.street.canvas import NEAR_M, Pen, Points, Texture
from rtseg.synthetic.street.class_ids import BUILDING, POLE, SIGN, TREE

__all__ = ["House", "Lamp", "Post", "Sign", "Thing", "Tree", "Wall", "disc"]

_DETAIL_M = 60.0
"""Beyond this depth, details of a pixel or less are left out."""


class Thing(Protocol):
    """Something that can be seen."""

    @property
    def z(self) -> float:
        """Where it is along the road, in metres; of a long thing the far end."""

    def draw(self, pen: Pen) -> None:
        """Draw it into image and labels."""


def disc(radius: float, corners: int = 12) -> Points:
    """A regular polygon around the origin: float64 (corners, 2)."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    """Corners of a rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


@dataclass(frozen=True, slots=True, eq=False)
class House:
    """A house whose front faces the street."""

    side: int
    x: float
    """Of its front."""
    near: float
    z: float
    height: float
    front: Texture
    wall: Colours
    """Colour of the wall at its end, lit."""
    roof: Colours | None
    """Colour of a pitched roof; None is flat."""

    def draw(self, pen: Pen) -> None:
        """Roof, end wall, front, chimney."""
        hidden = pen.camera.z + NEAR_M - self.near
        whole, pitched = hidden <= 0, self.roof is not None
        roof, gable, chimney = _shell(self.side, self.height, self.z - self.near, pitched)
        if self.roof is not None:
            pen.solid(roof, (4,), self.roof[None], BUILDING, self.x, self.near)
        if whole:
            pen.solid(gable, (5,), self.wall[None], BUILDING, self.x, self.near)
        pen.wall(self.front, self.x, self.near, self.z, 0.0, self.height)
        if pitched and whole and -hidden < _DETAIL_M:
            pen.solid(chimney, (4,), self.wall[None] * 0.8, BUILDING, self.x, self.near)


@lru_cache(maxsize=512)
def _shell(side: int, height: float, length: float, pitched: bool) -> tuple[Points, Points, Points]:
    """Slope of the roof (4, 3), end wall (5, 2), chimney (4, 2), from the near corner of the front."""
    ridge = height + (2.6 if pitched else 0.0)
    eaves = -0.3 * side
    roof = [
        (eaves, height, 0.0),
        (eaves, height, length),
        (4.0 * side, ridge, length),
        (4.0 * side, ridge, 0.0),
    ]
    gable = [(0.0, 0.0), (0.0, height), (4.0 * side, ridge), (8.0 * side, height), (8.0 * side, 0.0)]
    chimney = box(4.0 * side - 0.5, ridge - 0.6, 4.0 * side + 0.5, ridge + 1.1)
    return np.array(roof), np.array(gable), np.array(chimney)


@dataclass(frozen=True, slots=True, eq=False)
class Wall:
    """A fence or a hedge along the street."""

    x: float
    near: float
    z: float
    texture: Texture

    def draw(self, pen: Pen) -> None:
        """One plane."""
        pen.wall(self.texture, self.x, self.near, self.z, 0.05, self.texture.metres[0])


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A tree: a trunk and a stamped crown."""

    x: float
    z: float
    height: float
    crown: Texture
    bark: Colours

    def draw(self, pen: Pen) -> None:
        """Trunk, then crown."""
        size = self.height * 0.72
        thick = 0.022 * self.height
        trunk = np.array([(-thick, 0), (thick, 0), (thick * 0.7, self.height * 0.6), (-thick * 0.7, self.height * 0.6)])
        lit = trunk * (0.4, 1.0) + (thick * 0.5, 0)
        colours = np.array([self.bark, self.bark * 1.3])
        pen.solid(np.concatenate([trunk, lit]), (4, 8), colours, TREE, self.x, self.z)
        pen.stamp(self.crown, self.x, self.z, self.height - size, size, size * 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Lamp:
    """A lamp post with an arm over the road."""

    side: int
    x: float
    z: float
    height: float
    colour: Colours

    def draw(self, pen: Pen) -> None:
        """Post, arm and lamp."""
        h, inward = self.height, -float(self.side)
        shape = [
            *box(-0.11, 0, 0.11, 1.2),
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
        tones = colours
        pen.solid(np.array(shape), (4, 8, 12, 16), tones, POLE, self.x, self.z)


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """A bollard."""

    x: float
    z: float
    height: float
    colour: Colours

    def draw(self, pen: Pen) -> None:
        """Post and ring."""
        h = self.height
        shape = np.array([*box(-0.09, 0, 0.09, h), *box(-0.09, h * 0.75, 0.09, h * 0.88)])
        tones = np.array([self.colour, np.full(3, 220.0)])
        pen.solid(shape, (4, 8), tones, POLE, self.x, self.z)


_RED = np.array([40.0, 35.0, 200.0])
_WHITE = np.array([240.0, 240.0, 240.0])
_BLUE = np.array([180.0, 90.0, 20.0])
_DARK = np.array([35.0, 35.0, 35.0])


@dataclass(frozen=True, slots=True, eq=False)
class Sign:
    """A traffic sign or a traffic light on its post."""

    x: float
    z: float
    height: float
    """Of the middle of the sign."""
    kind: str
    """``ban``, ``warning``, ``order``, ``board`` or ``light``."""
    tint: Colours
    """Of a board; the channel that a light shows is its place: red, amber, green."""

    def draw(self, pen: Pen) -> None:
        """The post, then what it carries."""
        depth = pen.camera.depth(self.z)
        post = np.array(box(-0.05, 0, 0.05, self.height))
        grey = _DARK if self.kind == "light" else np.full(3, 120.0)
        pen.solid(post, (4,), grey[None], POLE, self.x, self.z)
        points, ends, colours = self._face()
        if depth > _DETAIL_M:
            ends = ends[:2]
        pen.solid(points + np.array((0.0, self.height)), ends, colours, SIGN, self.x, self.z)

    def _face(self) -> tuple[Points, list[int], Colours]:
        if self.kind == "light":
            lamps = [
                np.array(box(-0.2, -0.5, 0.2, 0.55)),
                *(disc(0.12, 8) + np.array((0.0, y)) for y in (0.33, 0.0, -0.33)),
            ]
            glow = (
                np.array([(50.0, 50, 255), (40, 180, 255), (120, 255, 60)])
                * np.where(self.tint > 0, 1.0, 0.25)[:, None]
            )
            return np.concatenate(lamps), [4, 12, 20, 28], np.array([_DARK, *glow])
        if self.kind == "warning":
            outer = np.array([(-0.5, -0.4), (0.5, -0.4), (0.0, 0.5)])
            parts = [outer, outer * 0.7, np.array(box(-0.04, -0.2, 0.04, 0.15))]
            return np.concatenate(parts), [3, 6, 10], np.array([_RED, _WHITE, _DARK])
        if self.kind == "board":
            parts = [np.array(box(-0.55, -0.45, 0.55, 0.45)), np.array(box(-0.5, -0.4, 0.5, 0.4))]
            parts += [np.array(box(-0.4, y, 0.35, y + 0.1)) for y in (-0.25, 0.0, 0.2)]
            return (
                np.concatenate(parts),
                [4, 8, 12, 16, 20],
                np.array([_WHITE, self.tint, _WHITE, _WHITE, _WHITE]),
            )
        ring, inner = (_RED, _WHITE) if self.kind == "ban" else (_WHITE, _BLUE)
        parts = [disc(0.38, 20), disc(0.29, 20), np.array(box(-0.2, -0.05, 0.2, 0.06))]
        return (
            np.concatenate(parts),
            [20, 40, 44],
            np.array([ring, inner, _DARK if self.kind == "ban" else _WHITE]),
        )
