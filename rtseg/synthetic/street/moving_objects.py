"""What moves, and the cars that are parked: cars, people on foot, people on bicycles.

A template is drawn at wherever the thing is at the moment; the scene decides where that is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rtseg.synthetic.street.appearance import Colours
from rtseg.synthetic.street.canvas import NEAR_M, Pen, Points
from rtseg.synthetic.street.class_ids import BICYCLIST, CAR, PEDESTRIAN, ROAD
from rtseg.synthetic.street.static_objects import box, disc

__all__ = ["Car", "Cyclist", "Person", "car_colours", "clothes"]

_Faces = tuple[Points, tuple[int, ...], tuple[int, ...]]
"""Vertices of faces from far to near; the end of each face in them; its place in the colours."""

_CAR_DETAIL_M = (38.0, 80.0)
"""Up to the first depth a car has all details, beyond the second only its outline."""
_PERSON_DETAIL_M = (28.0, 60.0)
"""The same for people."""


@dataclass(frozen=True, slots=True)
class _Body:
    """Measures of a car in metres; front and rear are length and height of the bonnet, run of the screen."""

    width: float
    length: float
    belt: float
    """Height of the lower edge of the windows."""
    roof: float
    front: tuple[float, float, float]
    rear: tuple[float, float, float]


_BODIES = {
    "hatchback": _Body(1.72, 3.9, 0.92, 1.45, (0.95, 0.78, 0.75), (0.05, 0.9, 0.35)),
    "saloon": _Body(1.78, 4.6, 0.92, 1.42, (1.15, 0.76, 0.8), (0.75, 0.88, 0.6)),
    "offroad": _Body(1.85, 4.5, 1.08, 1.78, (1.1, 0.98, 0.55), (0.05, 1.05, 0.2)),
    "van": _Body(1.95, 5.2, 1.15, 2.25, (0.8, 0.98, 0.7), (0.02, 1.1, 0.08)),
    "bus": _Body(2.45, 10.5, 1.15, 3.0, (0.05, 1.1, 0.15), (0.05, 1.1, 0.1)),
}

# Places in the colours of a car.
_PAINT, _SIDE, _TOP, _GLASS, _SCREEN, _TYRE, _HUB, _BUMPER, _LAMP, _PLATE = range(10)


def car_colours(rng: np.random.Generator, *, rear: bool, braking: bool = False) -> Colours:
    """Colours of one car: float64 (10, 3)."""
    lacquers = ((200, 200, 200), (40, 40, 42), (235, 235, 235), (120, 60, 30), (35, 30, 150), (110, 112, 115))
    rare = ((60, 90, 40), (150, 110, 40), (60, 140, 190), (40, 170, 215), (70, 30, 90))
    paints = lacquers if rng.random() < 0.8 else rare
    paint = np.array(paints[rng.integers(len(paints))], np.float64) + rng.uniform(-15, 15, 3)
    glass = np.array([62.0, 56.0, 50.0]) * rng.uniform(0.5, 1.4)
    screen = glass * (1.0 if rng.random() < 0.6 else 2.0)
    lamp = np.array([60.0, 50.0, 255.0 if braking else 160.0]) if rear else np.array([230.0, 235.0, 240.0])
    plate = np.array([70.0, 190.0, 225.0]) if rear else np.full(3, 225.0)
    bumper = paint * 0.75 if rng.random() < 0.6 else np.full(3, 45.0)
    tyre, hub = np.full(3, 26.0), np.full(3, rng.uniform(70, 170))
    side, top = paint * 0.82, paint * 1.12 + 8
    colours = np.array([paint, side, top, glass, screen, tyre, hub, bumper, lamp, plate])
    return np.asarray(np.clip(colours, 0, 255))


def clothes(rng: np.random.Generator) -> Colours:
    """Colours of somebody: coat, trousers, skin, hair, shoes, bag or helmet, bicycle: float64 (7, 3)."""
    dark = rng.random() < 0.55
    grey = rng.uniform(15, 90) if dark else rng.uniform(30, 190)
    coat = grey + rng.normal(0, 6 if dark else 40, 3)
    trousers = np.array([1.25, 1.0, 0.9]) * rng.uniform(25, 90)
    skin = np.array([130.0, 160.0, 215.0]) * rng.uniform(0.35, 1.0)
    hair = np.array([0.6, 0.8, 1.0]) * rng.uniform(15, 130)
    shoe, bag, frame = np.full(3, rng.uniform(15, 70)), rng.uniform(15, 200, 3), rng.uniform(15, 80, 3)
    return np.asarray(np.clip([coat, trousers, skin, hair, shoe, bag, frame], 5, 250))


@lru_cache(maxsize=64)
def _template(kind: str, rear: bool, side: int, detail: int) -> _Faces:
    """Faces of a car from far to near, seen at its rear or front and at a side (-1 left, 0 none, +1 right).

    Vertices are (N, 3), with z = 0 at the near end.
    """
    body = _BODIES[kind]
    near, far = (body.rear, body.front) if rear else (body.front, body.rear)
    (a, hood, run), (far_a, far_hood, far_run) = near, far
    length, belt, roof, half = body.length, body.belt, body.roof, body.width / 2
    top = half * (0.82 if kind != "bus" else 0.97)
    faces: list[tuple[Points, int]] = []

    def add(colour: int, *points: tuple[float, float, float]) -> None:
        faces.append((np.array(points, np.float64), colour))

    def add_side(colour: int, points: list[tuple[float, float, float]]) -> None:
        # x as a share of the half width, y, z
        faces.append((np.array([(side * half * x, y, z) for x, y, z in points]), colour))

    if side:
        lean = top / half
        low = [
            (1.0, 0.24, 0.02),
            (1.0, hood, 0.0),
            (1.0, belt, a),
            (1.0, belt, length - far_a),
            (1.0, far_hood, length),
        ]
        add_side(_SIDE, [*low, (1.0, 0.24, length)])
        ends = (a, a + run, length - far_a - far_run, length - far_a)
        add_side(_SIDE, [(1, belt, ends[0]), (lean, roof, ends[1]), (lean, roof, ends[2]), (1, belt, ends[3])])
        rise = belt + 0.86 * (roof - belt)
        inner = 1 - 0.86 * (1 - lean)
        back = length * 0.4 if kind == "van" and rear else 0.0
        glass = (ends[0] + 0.16 + back, ends[1] + 0.1 + back, ends[2] - 0.1, ends[3] - 0.2)
        if kind == "van" and not rear:
            glass = (glass[0], glass[1], ends[2] - length * 0.5, ends[3] - length * 0.5)
        add_side(
            _GLASS,
            [
                (1, belt + 0.04, glass[0]),
                (inner, rise, glass[1]),
                (inner, rise, glass[2]),
                (1, belt + 0.04, glass[3]),
            ],
        )
        if detail == 2:
            posts = (0.5,) if kind != "bus" else (0.2, 0.4, 0.6, 0.8)
            for part in posts:
                z = glass[0] + part * (glass[3] - glass[0])
                add_side(_SIDE, [(1, belt, z), (inner, rise, z), (inner, rise, z + 0.1), (1, belt, z + 0.1)])
            add_side(_BUMPER, [(1.0, 0.24, 0.05), (1.0, 0.36, 0.05), (1.0, 0.36, length), (1.0, 0.24, length)])
        for z in (0.78, length - 0.82) if kind != "bus" else (2.4, length - 2.2):
            radius = 0.31 if kind != "bus" else 0.48
            for size, colour in ((radius, _TYRE), (radius * 0.6, _HUB))[:detail]:
                ring = disc(size, 14 if detail == 2 else 8)
                faces.append(
                    (
                        np.column_stack([np.full(len(ring), side * half), ring[:, 1] + radius, ring[:, 0] + z]),
                        colour,
                    )
                )
    for x in (-half * 0.78, half * 0.78) if detail else ():
        add(_TYRE, (x - 0.12, 0, 0.3), (x + 0.12, 0, 0.3), (x + 0.12, 0.4, 0.3), (x - 0.12, 0.4, 0.3))
    far_end = length - far_a - far_run
    if detail == 2:
        add(_TOP, (-top, roof, a + run), (top, roof, a + run), (top, roof, far_end), (-top, roof, far_end))
    add(_PAINT, (-half, belt, a), (half, belt, a), (top, roof, a + run), (-top, roof, a + run))
    y0, y1 = belt + 0.08 * (roof - belt), belt + 0.84 * (roof - belt)
    x0, x1, z0, z1 = half * 0.88, top * 0.88, a + run * 0.08, a + run * 0.84
    if not (kind == "van" and rear):
        add(_SCREEN, (-x0, y0, z0), (x0, y0, z0), (x1, y1, z1), (-x1, y1, z1))
    else:
        for s in (-1, 1):
            add(
                _SCREEN,
                (s * 0.12, y0, z0),
                (s * x0 * 0.8, y0, z0),
                (s * x1 * 0.8, y1 * 0.95, z1),
                (s * 0.12, y1 * 0.95, z1),
            )
    if hood < belt:
        add(_TOP if a > 0.1 else _PAINT, (-half, hood, 0), (half, hood, 0), (half, belt, a), (-half, belt, a))
    add(_PAINT, (-half, 0.24, 0), (half, 0.24, 0), (half, hood, 0), (-half, hood, 0))
    if detail:
        add(_BUMPER, (-half, 0.24, 0), (half, 0.24, 0), (half, 0.46, 0), (-half, 0.46, 0))
    for s in (-1, 1) if detail else ():
        x0, x1 = s * half * 0.66, s * half * 0.96
        add(_LAMP, (x0, hood - 0.26, 0), (x1, hood - 0.26, 0), (x1, hood - 0.06, 0), (x0, hood - 0.06, 0))
    if detail == 2:
        if not rear:
            add(
                _TYRE,
                (-half * 0.5, hood - 0.22, 0),
                (half * 0.5, hood - 0.22, 0),
                (half * 0.5, hood - 0.1, 0),
                (-half * 0.5, hood - 0.1, 0),
            )
        add(_PLATE, (-0.26, 0.48, 0), (0.26, 0.48, 0), (0.26, 0.6, 0), (-0.26, 0.6, 0))
    return _joined(faces)


def _joined(faces: list[tuple[Points, int]]) -> _Faces:
    ends = np.cumsum([len(points) for points, _ in faces]).tolist()
    return np.concatenate([points for points, _ in faces]), tuple(ends), tuple(place for _, place in faces)


def _detail(depth_m: float, limits_m: tuple[float, float]) -> int:
    """2 is all, 1 without what is smaller than a pixel or two, 0 the outline."""
    return sum(depth_m < limit for limit in limits_m)


@dataclass(frozen=True, slots=True, eq=False)
class Car:
    """A car at one moment."""

    x: float
    z: float
    """Of its near end."""
    kind: str
    rear: bool
    """Whether the near end is its rear."""
    colours: Colours

    def draw(self, pen: Pen) -> None:
        """Side, roof, near end."""
        camera = pen.camera
        body = _BODIES[self.kind]
        if self.z + body.length < camera.z + NEAR_M:
            return
        depth = camera.depth(self.z)
        middle = self.x + camera.aside(self.z)
        side = -1 if middle > body.width / 2 else 1 if middle < -body.width / 2 else 0
        points, ends, places = _template(self.kind, self.rear, side, _detail(depth, _CAR_DETAIL_M))
        pen.solid(points, ends, self.colours[list(places)], CAR, self.x, self.z)

    def shadow(self, pen: Pen, dark: Colours) -> None:
        """The shadow on the road: the class stays Road."""
        body = _BODIES[self.kind]
        half, length = body.width / 2 + 0.08, body.length
        left, right = -half, half
        if pen.look.sun < 0:
            right += 0.6 * body.roof
        elif pen.look.sun > 0:
            left -= 0.6 * body.roof
        # Shadows end at the kerb, where the ground has another class.
        left = max(left, pen.look.kerb_m(-1) + 0.1 - self.x)
        right = min(right, pen.look.kerb_m(1) - 0.1 - self.x)
        points = np.array([(left, 0, -0.12), (right, 0, -0.12), (right, 0, length), (left, 0, length)])
        pen.solid(points, (4,), dark[None], ROAD, self.x, self.z)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Somebody on foot at one moment."""

    x: float
    z: float
    foot: float
    """Height of the ground."""
    tall: float
    stride: float
    """Phase of the steps, in radians."""
    across: bool
    """Seen from the side, walking across the road."""
    colours: Colours
    """As made by ``clothes``."""

    def draw(self, pen: Pen) -> None:
        """Legs, body, arms, head."""
        depth = pen.camera.depth(self.z)
        swing = math.sin(self.stride)
        points, ends, places = _walker(self.across, round(swing, 1), _detail(depth, _PERSON_DETAIL_M))
        place = points * self.tall + (0.0, self.foot)
        pen.solid(place, ends, self.colours[list(places)], PEDESTRIAN, self.x, self.z)


_COAT, _TROUSERS, _SKIN, _HAIR, _SHOE, _BAG, _FRAME = range(7)


@lru_cache(maxsize=512)
def _walker(across: bool, swing: float, detail: int) -> _Faces:
    """Somebody of height 1 in mid stride, -1 <= swing <= 1: points (N, 2), ends and colours of the parts."""
    parts: list[tuple[Points, int]] = []
    if detail == 0:
        coat = [(-0.11, 0.44), (0.11, 0.44), (0.14, 0.78), (0.06, 0.85), (-0.06, 0.85), (-0.14, 0.78)]
        parts.append((np.array(box(-0.08, 0.0, 0.08, 0.46)), _TROUSERS))
        parts.append((np.array(coat), _COAT))
        parts.append((np.array(box(-0.05, 0.85, 0.05, 0.99)), _HAIR))
        return _joined(parts)

    def leg(hip: float, foot: float, lift: float) -> None:
        knee = (hip + foot) / 2 + 0.02 * (abs(swing) if across else 0)
        shape = [(hip - 0.045, 0.48), (hip + 0.045, 0.48), (knee + 0.04, 0.26), (foot + 0.03, 0.03 + lift)]
        parts.append((np.array([*shape, (foot - 0.03, 0.03 + lift), (knee - 0.035, 0.26)]), _TROUSERS))
        if detail < 2:
            return
        toe = 0.05 if across else 0.0
        parts.append((np.array(box(foot - 0.035, lift, foot + 0.035 + toe, lift + 0.035)), _SHOE))

    def arm(shoulder: float, hand: float) -> None:
        shape = [(shoulder - 0.03, 0.8), (shoulder + 0.03, 0.8), (hand + 0.025, 0.46), (hand - 0.025, 0.46)]
        parts.append((np.array(shape), _COAT))
        if detail == 2:
            parts.append((disc(0.022, 6) + np.array((hand, 0.45)), _SKIN))

    if across:
        leg(0.0, 0.15 * swing, 0.03 * max(0.0, swing))
        arm(0.0, -0.12 * swing)
        leg(0.0, -0.15 * swing, 0.03 * max(0.0, -swing))
        torso = [(-0.075, 0.45), (0.075, 0.45), (0.085, 0.76), (0.05, 0.84), (-0.05, 0.84), (-0.085, 0.76)]
    else:
        leg(-0.05, -0.05 + 0.015 * swing, 0.045 * max(0.0, swing))
        leg(0.05, 0.05 + 0.015 * swing, 0.045 * max(0.0, -swing))
        torso = [(-0.105, 0.44), (0.105, 0.44), (0.125, 0.77), (0.07, 0.84), (-0.07, 0.84), (-0.125, 0.77)]
    parts.append((np.array(torso), _COAT))
    if across:
        arm(0.0, 0.12 * swing)
    else:
        arm(-0.135, -0.15)
        arm(0.135, 0.15)
        if detail == 2:
            parts.append((np.array(box(0.13, 0.3, 0.21, 0.44)), _BAG))
            parts.append((np.array(box(-0.025, 0.82, 0.025, 0.88)), _SKIN))
    parts.append((disc(0.058, 10) * (0.85, 1.15) + (0, 0.925), _SKIN))
    hair = [(-0.055, 0.925), (0.055, 0.925), (0.05, 0.97), (0.0, 1.0), (-0.05, 0.97)]
    if detail == 2:
        parts.append((np.array(hair), _HAIR))
    return _joined(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Cyclist:
    """Somebody on a bicycle at one moment, seen from behind or in front."""

    x: float
    z: float
    stride: float
    """Phase of the pedals, in radians."""
    colours: Colours
    """As of ``Person``; the bag is the helmet."""

    def draw(self, pen: Pen) -> None:
        """Wheel, legs, body, bars, head."""
        push = 0.17 * math.sin(self.stride)
        parts: list[tuple[Points, int]] = [(disc(1.0, 12) * (0.035, 0.34) + (0, 0.34), _FRAME)]
        parts.append((np.array(box(-0.03, 0.3, 0.03, 0.95)), _FRAME))
        for s, lift in ((-1, push), (1, -push)):
            foot = 0.3 + lift
            knee = 0.72 + 0.6 * lift
            shin = [
                (s * 0.09 - 0.05, foot),
                (s * 0.09 + 0.05, foot),
                (s * 0.15 + 0.06, knee),
                (s * 0.15 - 0.06, knee),
            ]
            thigh = [
                (s * 0.15 - 0.07, knee),
                (s * 0.15 + 0.07, knee),
                (s * 0.1 + 0.08, 1.0),
                (s * 0.1 - 0.08, 1.0),
            ]
            parts += [(np.array(shin), _TROUSERS), (np.array(thigh), _TROUSERS)]
            parts.append((np.array(box(s * 0.09 - 0.06, foot - 0.06, s * 0.09 + 0.06, foot)), _SHOE))
        parts.append((np.array(box(-0.3, 1.0, 0.3, 1.04)), _FRAME))
        torso = [(-0.17, 0.92), (0.17, 0.92), (0.23, 1.4), (0.12, 1.5), (-0.12, 1.5), (-0.23, 1.4)]
        parts.append((np.array(torso), _COAT))
        for s in (-1, 1):
            arm = [(s * 0.18, 1.42), (s * 0.26, 1.42), (s * 0.32, 1.04), (s * 0.25, 1.02)]
            parts.append((np.array(arm), _COAT))
        parts.append((disc(0.11, 10) * (0.85, 1.15) + (0, 1.63), _SKIN))
        parts.append((np.array([(-0.11, 1.66), (0.11, 1.66), (0.08, 1.76), (0.0, 1.79), (-0.08, 1.76)]), _BAG))
        points, ends, places = _joined(parts)
        pen.solid(points, ends, self.colours[list(places)], BICYCLIST, self.x, self.z)
