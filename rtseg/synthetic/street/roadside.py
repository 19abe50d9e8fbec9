"""What stands beside and above motorways and country roads, and long shadows on any road.

Classes are those of CamVid's 11: grass and earth are Tree (its VegetationMisc), walls and bridges Building, guard rails
and concrete barriers Fence, postboxes Pole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from rtseg.synthetic.street.appearance import Appearance, Colours
from rtseg.synthetic.street.canvas import Painter, Points, Texture
from rtseg.synthetic.street.class_ids import BUILDING, FENCE, POLE, SIGN
from rtseg.synthetic.street.static_objects import Barrier, Bollard, StreetLamp, StreetObject, rectangle, regular_polygon
from rtseg.synthetic.street.textures import concrete, guard_rail

__all__ = ["Bridge", "Gantry", "GuardRail", "Postbox", "Roadside", "long_shadows"]

_REACH_M = 34.0
"""How far a bridge reaches to the left and right."""


@dataclass(frozen=True, slots=True, eq=False)
class GuardRail:
    """A steel band on posts."""

    x: float
    near_z: float
    z: float
    band: Texture

    def draw(self, painter: Painter) -> None:
        """Add the posts, then the band."""
        for post in np.arange(self.near_z + 1.0, self.z, 4.0):
            shape = np.array(rectangle(-0.06, 0.0, 0.06, 0.6))
            if post > painter.camera.z + 1.5:
                painter.add_mesh(shape, (4,), np.full((1, 3), 105.0), FENCE, self.x, float(post))
        painter.add_wall(self.band, self.x, self.near_z, self.z, 0.4, 0.78)


@dataclass(frozen=True, slots=True, eq=False)
class Bridge:
    """A bridge over the road."""

    z: float
    pillars: tuple[float, ...]
    """Positions of its pillars, in metres from the centre line."""
    height: float
    """Of its lower edge."""
    colour: Colours

    def draw(self, painter: Painter) -> None:
        """Add pillars, lower side, front and parapet."""
        low, high = self.height, self.height + 1.5
        for x in self.pillars:
            shape = np.array([(px, y, 4.0) for px, y in rectangle(x - 0.6, 0.0, x + 0.6, low)])
            painter.add_mesh(shape, (4,), self.colour[None] * 0.55, BUILDING, 0.0, self.z)
        below = [(-_REACH_M, low, 9.0), (_REACH_M, low, 9.0), (_REACH_M, low, 0.0), (-_REACH_M, low, 0.0)]
        front = [(x, y, 0.0) for x, y in rectangle(-_REACH_M, low, _REACH_M, high)]
        parapet = [(x, y, 0.0) for x, y in rectangle(-_REACH_M, high, _REACH_M, high + 0.9)]
        colours = np.array([self.colour * 0.35, self.colour, self.colour * 0.8])
        painter.add_mesh(np.array([*below, *front, *parapet]), (4, 8, 12), colours, BUILDING, 0.0, self.z)


@dataclass(frozen=True, slots=True, eq=False)
class Gantry:
    """Direction signs above a motorway."""

    z: float
    left: float
    right: float
    boards: tuple[float, ...]
    """Centres of the boards, in metres from the centre line."""
    tint: Colours

    def draw(self, painter: Painter) -> None:
        """Add posts and beam, then the boards."""
        frame = [
            *rectangle(self.left - 0.2, 0, self.left + 0.2, 7.2),
            *rectangle(self.right - 0.2, 0, self.right + 0.2, 7.2),
            *rectangle(self.left, 6.6, self.right, 7.1),
        ]
        painter.add_mesh(np.array(frame), (4, 8, 12), np.full((3, 3), 120.0), POLE, 0.0, self.z)
        white = np.full(3, 235.0)
        for x in self.boards:
            parts = [*rectangle(x - 1.7, 5.6, x + 1.7, 7.9), *rectangle(x - 1.6, 5.7, x + 1.6, 7.8)]
            parts += [*rectangle(x - 1.2, 6.1, x + 0.7, 6.4), *rectangle(x - 1.2, 6.8, x + 0.7, 7.1)]
            colours = np.array([white, self.tint, white, white])
            painter.add_mesh(np.array(parts), (4, 8, 12, 16), colours, SIGN, 0.0, self.z)


@dataclass(frozen=True, slots=True, eq=False)
class Postbox:
    """A postbox or a cabinet, as high as a person."""

    x: float
    z: float
    width: float
    height: float
    colour: Colours

    def draw(self, painter: Painter) -> None:
        """Add body, top and slot."""
        half, h = self.width / 2, self.height
        parts = [
            *rectangle(-half, 0, half, h),
            *rectangle(-half * 1.12, h * 0.93, half * 1.12, h),
            *rectangle(-half * 0.6, h * 0.74, half * 0.6, h * 0.79),
        ]
        colours = np.array([self.colour, self.colour * 0.8, np.full(3, 25.0)])
        painter.add_mesh(np.array(parts), (4, 8, 12), colours, POLE, self.x, self.z)


@dataclass
class Roadside:
    """What stands beside a motorway or country road, section by section.

    Args:
        look: of the road.
        rng: for what all sections share.
    """

    look: Appearance
    rng: np.random.Generator
    _textures: dict[str, Texture] = field(init=False)

    def __post_init__(self) -> None:
        look, rng = self.look, self.rng
        self._textures = {
            "rail": guard_rail(rng, look),
            "concrete": concrete(rng, look, FENCE, rng.uniform(0.8, 1.1)),
            "wall": concrete(rng, look, BUILDING, rng.uniform(2.0, 5.0)),
        }
        self._stone = np.full(3, rng.uniform(85, 190)) * rng.uniform(0.93, 1.07, 3)
        self._tint = np.array([(150.0, 75, 15), (70, 105, 15), (45, 45, 45)][rng.integers(3)])
        self._lamp = (float(rng.uniform(9.0, 13.0)), np.full(3, rng.uniform(60, 150)), rng.random() < 0.35)

    def objects(self, rng: np.random.Generator, begin: float, length: float, side: int) -> Iterator[StreetObject]:
        """Yield what stands at ``side`` of the section that begins at ``begin``, in metres."""
        look = self.look
        kind = look.edges[side > 0]
        edge = look.kerb_m(side) + side * (0.1 if kind in ("concrete", "wall") else 0.5)
        if kind == "rail":
            yield GuardRail(edge, begin, begin + length, self._textures["rail"])
        elif kind:
            yield Barrier(edge, begin, begin + length, self._textures[kind])
        elif rng.random() < 0.8:
            yield Bollard(edge, begin + 2.0, 1.0, np.full(3, 215.0))
        if self._lamp[2] and rng.random() < 0.5:
            yield StreetLamp(side, edge + side * 0.4, begin + 5.0, self._lamp[0], self._lamp[1])

    def above(self, rng: np.random.Generator, begin: float) -> Iterator[StreetObject]:
        """Yield a bridge or direction signs, seldom."""
        look = self.look
        left, right = look.kerb_m(-1) - 1.2, look.kerb_m(1) + 1.2
        chance = rng.random()
        if chance < 0.08:
            outer = (left - rng.uniform(0, 6), right + rng.uniform(0, 6))
            yield Bridge(begin + 6.0, outer, rng.uniform(4.6, 6.5), self._stone * rng.uniform(0.8, 1.1))
        elif chance < 0.15 and look.layout == "motorway":
            boards = tuple(rng.uniform(left + 2, right - 2, rng.integers(1, 3)))
            yield Gantry(begin + 12.0, left, right, boards, self._tint)


def long_shadows(rng: np.random.Generator, look: Appearance, slant: float, length_m: float) -> list[Points]:
    """Return the outlines of shadows across a road section: (N, 2) each, x and z from its start, in metres.

    Args:
        rng: of the section.
        look: of the road; its sun decides where the shadows come from.
        slant: how far along the road a shadow moves for each metre across it; the same for all of a street.
        length_m: of the section.
    """
    outlines = []
    for _ in range(rng.poisson(look.shadows)):
        start = look.edge_m(look.sun) + look.sun * rng.uniform(0.5, 3.0)
        reach = -look.sun * rng.uniform(0.35, 1.1) * (sum(look.road_m) + sum(look.pavement_m))
        z = rng.uniform(0, length_m)
        tip, tip_z = start + reach, z + slant * abs(reach)
        kind = rng.random()
        half = rng.uniform(0.08, 0.25) if kind < 0.65 else rng.uniform(2.5, 8.0)
        outlines.append(np.array([(start, z - half), (tip, tip_z - half), (tip, tip_z + half), (start, z + half)]))
        if kind < 0.4:  # the crown of a tree
            for _ in range(6):
                centre = (tip + rng.normal(0, 1.2), tip_z + rng.normal(0, 1.6))
                outlines.append(regular_polygon(rng.uniform(0.6, 1.8), 9) * (1.0, 1.4) + centre)
    return outlines
