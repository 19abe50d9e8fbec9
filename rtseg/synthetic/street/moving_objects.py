"""Vehicles and people: cars (moving and parked), pedestrians, cyclists.

Each object describes one moment; ``scene`` decides where it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rtseg.synthetic.street.appearance import Colours
from rtseg.synthetic.street.canvas import NEAR_M, Painter, Points
from rtseg.synthetic.street.class_ids import BICYCLIST, CAR, PEDESTRIAN, ROAD
from rtseg.synthetic.street.static_objects import rectangle, regular_polygon

__all__ = ["Car", "Cyclist", "Pedestrian", "car_colours", "clothing_colours"]

_Face = tuple[Points, int]
"""Vertices of a convex face, and the index of its colour in the object's colours."""
_Mesh = tuple[Points, tuple[int, ...], tuple[int, ...]]
"""Vertices of all faces from far to near; the end of each face in them; the colour index of each face."""

_CAR_DETAIL_M = (38.0, 80.0)
"""Up to the first depth a car has all details, beyond the second only its outline."""
_PEDESTRIAN_DETAIL_M = (28.0, 60.0)
"""The same for pedestrians."""


class _End(NamedTuple):
    """Front or rear end of a car, in metres."""

    hood_length: float
    hood_height: float
    window_run: float
    """Horizontal length of the sloping window."""


@dataclass(frozen=True, slots=True)
class _Body:
    """Measurements of a car in metres."""

    width: float
    length: float
    belt: float
    """Height of the lower edge of the windows."""
    roof: float
    front: _End
    rear: _End
    roof_width: float = 0.82
    """Width of the roof as a share of ``width``."""
    axles: tuple[float, float] = (0.78, 0.82)
    """Distance of the axles from the near and far end."""
    wheel_radius: float = 0.31
    pillars: tuple[float, ...] = (0.5,)
    """Positions of the pillars along the side window, in [0, 1]."""
    cargo: bool = False
    """Whether the rear half has no side windows and the back has two doors."""


_BODIES = {
    "hatchback": _Body(1.72, 3.9, 0.92, 1.45, _End(0.95, 0.78, 0.75), _End(0.05, 0.9, 0.35)),
    "saloon": _Body(1.78, 4.6, 0.92, 1.42, _End(1.15, 0.76, 0.8), _End(0.75, 0.88, 0.6)),
    "offroad": _Body(1.85, 4.5, 1.08, 1.78, _End(1.1, 0.98, 0.55), _End(0.05, 1.05, 0.2)),
    "van": _Body(1.95, 5.2, 1.15, 2.25, _End(0.8, 0.98, 0.7), _End(0.02, 1.1, 0.08), cargo=True),
}
_BUS_ENDS = _End(0.05, 1.1, 0.15), _End(0.05, 1.1, 0.1)
_BODIES["bus"] = _Body(2.45, 10.5, 1.15, 3.0, *_BUS_ENDS, 0.97, (2.4, 2.2), 0.48, pillars=(0.2, 0.4, 0.6, 0.8))

# Indices into the colours of a car.
_PAINT, _SIDE, _ROOF, _GLASS, _WINDSCREEN, _TYRE, _HUB, _BUMPER, _LAMP, _PLATE = range(10)

_COMMON_PAINTS = ((200, 200, 200), (40, 40, 42), (235, 235, 235), (120, 60, 30), (35, 30, 150), (110, 112, 115))
_RARE_PAINTS = ((60, 90, 40), (150, 110, 40), (60, 140, 190), (40, 170, 215), (70, 30, 90))


def car_colours(rng: np.random.Generator, *, rear: bool) -> Colours:
    """Return random colours of one car seen from the rear or the front: float64 (10, 3)."""
    paints = _COMMON_PAINTS if rng.random() < 0.8 else _RARE_PAINTS
    paint = np.array(paints[rng.integers(len(paints))], np.float64) + rng.uniform(-15, 15, 3)
    glass = np.array([62.0, 56.0, 50.0]) * rng.uniform(0.5, 1.4)
    windscreen = glass * (1.0 if rng.random() < 0.6 else 2.0)
    lamp = np.array([60.0, 50.0, 160.0]) if rear else np.array([230.0, 235.0, 240.0])
    plate = np.array([70.0, 190.0, 225.0]) if rear else np.full(3, 225.0)
    bumper = paint * 0.75 if rng.random() < 0.6 else np.full(3, 45.0)
    tyre, hub = np.full(3, 26.0), np.full(3, rng.uniform(70, 170))
    colours = np.array([paint, paint * 0.82, paint * 1.12 + 8, glass, windscreen, tyre, hub, bumper, lamp, plate])
    return np.asarray(np.clip(colours, 0, 255))


def clothing_colours(rng: np.random.Generator) -> Colours:
    """Return random colours of one person: float64 (7, 3).

    The rows are coat, trousers, skin, hair, shoes, bag (a cyclist's helmet), bicycle.
    """
    dark = rng.random() < 0.55
    grey = rng.uniform(15, 90) if dark else rng.uniform(30, 190)
    coat = grey + rng.normal(0, 6 if dark else 40, 3)
    trousers = np.array([1.25, 1.0, 0.9]) * rng.uniform(25, 90)
    skin = np.array([130.0, 160.0, 215.0]) * rng.uniform(0.35, 1.0)
    hair = np.array([0.6, 0.8, 1.0]) * rng.uniform(15, 130)
    shoe, bag, bicycle = np.full(3, rng.uniform(15, 70)), rng.uniform(15, 200, 3), rng.uniform(15, 80, 3)
    return np.asarray(np.clip([coat, trousers, skin, hair, shoe, bag, bicycle], 5, 250))


@lru_cache(maxsize=64)
def _car_mesh(kind: str, rear: bool, side: int, detail: int) -> _Mesh:
    """Build the visible faces of a car. Vertices are (N, 3), with z = 0 at the near end.

    Args:
        kind: Key of ``_BODIES``.
        rear: Whether the near end is the rear.
        side: Visible side: -1 left, 0 none, +1 right.
        detail: See ``_detail_level``.
    """
    body = _BODIES[kind]
    faces = _car_side(body, rear, side, detail) if side else []
    return _merge_faces(faces + _car_end(body, rear, detail))


def _car_side(body: _Body, rear: bool, side: int, detail: int) -> list[_Face]:
    near, far = (body.rear, body.front) if rear else (body.front, body.rear)
    length, belt, roof, half = body.length, body.belt, body.roof, body.width / 2
    roof_x = half * body.roof_width / half

    def panel(colour: int, *points: tuple[float, float, float]) -> _Face:
        # x is a share of the half width.
        return np.array([(side * half * x, y, z) for x, y, z in points]), colour

    # z of the windows' corners: lower and upper at the near end, upper and lower at the far end.
    z0, z1 = near.hood_length, near.hood_length + near.window_run
    z2, z3 = length - far.hood_length - far.window_run, length - far.hood_length
    lower = [(1.0, 0.24, 0.02), (1.0, near.hood_height, 0.0), (1.0, belt, z0)]
    lower += [(1.0, belt, z3), (1.0, far.hood_height, length), (1.0, 0.24, length)]
    faces = [panel(_SIDE, *lower), panel(_SIDE, (1, belt, z0), (roof_x, roof, z1), (roof_x, roof, z2), (1, belt, z3))]

    top, top_x = belt + 0.86 * (roof - belt), 1 - 0.86 * (1 - roof_x)
    closed = length * 0.4 if body.cargo and rear else 0.0
    glass0, glass1 = z0 + 0.16 + closed, z1 + 0.1 + closed
    glass2, glass3 = (z2 - length * 0.5, z3 - length * 0.5) if body.cargo and not rear else (z2 - 0.1, z3 - 0.2)
    window = (1, belt + 0.04, glass0), (top_x, top, glass1), (top_x, top, glass2), (1, belt + 0.04, glass3)
    faces.append(panel(_GLASS, *window))
    if detail == 2:
        for pillar in body.pillars:
            z = glass0 + pillar * (glass3 - glass0)
            faces.append(panel(_SIDE, (1, belt, z), (top_x, top, z), (top_x, top, z + 0.1), (1, belt, z + 0.1)))
        sill = (1.0, 0.24, 0.05), (1.0, 0.36, 0.05), (1.0, 0.36, length), (1.0, 0.24, length)
        faces.append(panel(_BUMPER, *sill))
    for z in (body.axles[0], length - body.axles[1]):
        for radius, colour in ((body.wheel_radius, _TYRE), (body.wheel_radius * 0.6, _HUB))[:detail]:
            ring = regular_polygon(radius, 14 if detail == 2 else 8)
            points = np.column_stack([np.full(len(ring), side * half), ring[:, 1] + body.wheel_radius, ring[:, 0] + z])
            faces.append((points, colour))
    return faces


def _car_end(body: _Body, rear: bool, detail: int) -> list[_Face]:
    """Build the near end, and the roof behind it."""
    near, far = (body.rear, body.front) if rear else (body.front, body.rear)
    belt, roof, half = body.belt, body.roof, body.width / 2
    hood_z, hood = near.hood_length, near.hood_height
    roof_z, roof_half = hood_z + near.window_run, half * body.roof_width
    faces: list[_Face] = []
    if detail:
        faces += [_upright(_TYRE, x - 0.12, 0, x + 0.12, 0.4, z=0.3) for x in (-half * 0.78, half * 0.78)]
    if detail == 2:
        far_z = body.length - far.hood_length - far.window_run
        faces.append(_symmetric(_ROOF, (roof_half, roof, roof_z), (roof_half, roof, far_z)))
    faces.append(_symmetric(_PAINT, (half, belt, hood_z), (roof_half, roof, roof_z)))
    x0, y0, z0 = half * 0.88, belt + 0.08 * (roof - belt), hood_z + near.window_run * 0.08
    x1, y1, z1 = roof_half * 0.88, belt + 0.84 * (roof - belt), hood_z + near.window_run * 0.84
    if body.cargo and rear:
        door = (0.12, y0, z0), (x0 * 0.8, y0, z0), (x1 * 0.8, y1 * 0.95, z1), (0.12, y1 * 0.95, z1)
        faces += [(np.array([(s * x, y, z) for x, y, z in door]), _WINDSCREEN) for s in (-1, 1)]
    else:
        faces.append(_symmetric(_WINDSCREEN, (x0, y0, z0), (x1, y1, z1)))
    if hood < belt:
        faces.append(_symmetric(_ROOF if hood_z > 0.1 else _PAINT, (half, hood, 0), (half, belt, hood_z)))
    faces.append(_upright(_PAINT, -half, 0.24, half, hood))
    if detail:
        faces.append(_upright(_BUMPER, -half, 0.24, half, 0.46))
        faces += [_upright(_LAMP, s * half * 0.66, hood - 0.26, s * half * 0.96, hood - 0.06) for s in (-1, 1)]
    if detail == 2:
        if not rear:
            faces.append(_upright(_TYRE, -half * 0.5, hood - 0.22, half * 0.5, hood - 0.1))
        faces.append(_upright(_PLATE, -0.26, 0.48, 0.26, 0.6))
    return faces


def _upright(colour: int, x0: float, y0: float, x1: float, y1: float, z: float = 0.0) -> _Face:
    """Return a rectangle that faces the camera."""
    return np.array([(x, y, z) for x, y in rectangle(x0, y0, x1, y1)]), colour


def _symmetric(colour: int, lower: tuple[float, float, float], upper: tuple[float, float, float]) -> _Face:
    """Return a trapezium from -x to x, given its lower and upper right corner."""
    (x0, y0, z0), (x1, y1, z1) = lower, upper
    return np.array([(-x0, y0, z0), (x0, y0, z0), (x1, y1, z1), (-x1, y1, z1)], np.float64), colour


def _merge_faces(faces: list[_Face]) -> _Mesh:
    ends = np.cumsum([len(points) for points, _ in faces]).tolist()
    return np.concatenate([points for points, _ in faces]), tuple(ends), tuple(colour for _, colour in faces)


def _detail_level(depth_m: float, limits_m: tuple[float, float]) -> int:
    """Return 2 for all details, 1 without those smaller than a pixel or two, 0 for the outline."""
    return sum(depth_m < limit for limit in limits_m)


@dataclass(frozen=True, slots=True, eq=False)
class Car:
    """A car at one moment."""

    x: float
    z: float
    """Position of the near end."""
    kind: str
    """``hatchback``, ``saloon``, ``offroad``, ``van`` or ``bus``."""
    rear: bool
    """Whether the near end is the rear."""
    colours: Colours
    """See ``car_colours``."""

    def draw(self, painter: Painter) -> None:
        """Add side, roof and near end."""
        camera = painter.camera
        body = _BODIES[self.kind]
        if self.z + body.length < camera.z + NEAR_M:
            return
        detail = _detail_level(camera.depth(self.z), _CAR_DETAIL_M)
        middle = self.x + camera.road_offset(self.z)
        side = -1 if middle > body.width / 2 else 1 if middle < -body.width / 2 else 0
        points, ends, colours = _car_mesh(self.kind, self.rear, side, detail)
        painter.add_mesh(points, ends, self.colours[list(colours)], CAR, self.x, self.z)

    def draw_shadow(self, painter: Painter, colour: Colours) -> None:
        """Add the shadow on the road; its class is Road."""
        look, body = painter.look, _BODIES[self.kind]
        half, length = body.width / 2 + 0.08, body.length
        left, right = -half, half
        if look.sun < 0:
            right += 0.6 * body.roof
        elif look.sun > 0:
            left -= 0.6 * body.roof
        # The shadow ends at the kerb, where the ground has another class.
        left = max(left, look.kerb_m(-1) + 0.1 - self.x)
        right = min(right, look.kerb_m(1) - 0.1 - self.x)
        points = np.array([(left, 0, -0.12), (right, 0, -0.12), (right, 0, length), (left, 0, length)])
        painter.add_mesh(points, (4,), colour[None], ROAD, self.x, self.z)


@dataclass(frozen=True, slots=True, eq=False)
class Pedestrian:
    """A pedestrian at one moment."""

    x: float
    z: float
    ground_y: float
    """Height of the ground, in metres."""
    height: float
    step_phase: float
    """Phase of the steps, in radians."""
    crossing: bool
    """Whether the pedestrian crosses the road and is seen from the side."""
    colours: Colours
    """See ``clothing_colours``."""

    def draw(self, painter: Painter) -> None:
        """Add legs, torso, arms and head."""
        detail = _detail_level(painter.camera.depth(self.z), _PEDESTRIAN_DETAIL_M)
        swing = math.sin(self.step_phase)
        points, ends, colours = _pedestrian_mesh(self.crossing, round(swing, 1), detail)
        points = points * self.height + (0.0, self.ground_y)
        painter.add_mesh(points, ends, self.colours[list(colours)], PEDESTRIAN, self.x, self.z)


# Indices into the colours of a person.
_COAT, _TROUSERS, _SKIN, _HAIR, _SHOE, _BAG, _BICYCLE = range(7)

_FAR_TORSO = [(-0.11, 0.44), (0.11, 0.44), (0.14, 0.78), (0.06, 0.85), (-0.06, 0.85), (-0.14, 0.78)]
_SIDE_TORSO = [(-0.075, 0.45), (0.075, 0.45), (0.085, 0.76), (0.05, 0.84), (-0.05, 0.84), (-0.085, 0.76)]
_FRONT_TORSO = [(-0.105, 0.44), (0.105, 0.44), (0.125, 0.77), (0.07, 0.84), (-0.07, 0.84), (-0.125, 0.77)]
_HAIR_SHAPE = [(-0.055, 0.925), (0.055, 0.925), (0.05, 0.97), (0.0, 1.0), (-0.05, 0.97)]


@lru_cache(maxsize=512)
def _pedestrian_mesh(crossing: bool, swing: float, detail: int) -> _Mesh:
    """Build a pedestrian of height 1, with vertices (N, 2). ``swing`` is the position of the legs, in [-1, 1]."""
    faces: list[_Face] = []
    if detail == 0:
        legs, head = np.array(rectangle(-0.08, 0.0, 0.08, 0.46)), np.array(rectangle(-0.05, 0.85, 0.05, 0.99))
        return _merge_faces([(legs, _TROUSERS), (np.array(_FAR_TORSO), _COAT), (head, _HAIR)])

    def add_leg(hip: float, foot: float, lift: float) -> None:
        knee = (hip + foot) / 2 + 0.02 * (abs(swing) if crossing else 0)
        shape = [(hip - 0.045, 0.48), (hip + 0.045, 0.48), (knee + 0.04, 0.26), (foot + 0.03, 0.03 + lift)]
        faces.append((np.array([*shape, (foot - 0.03, 0.03 + lift), (knee - 0.035, 0.26)]), _TROUSERS))
        if detail == 2:
            toe = 0.05 if crossing else 0.0
            faces.append((np.array(rectangle(foot - 0.035, lift, foot + 0.035 + toe, lift + 0.035)), _SHOE))

    def add_arm(shoulder: float, hand: float) -> None:
        shape = [(shoulder - 0.03, 0.8), (shoulder + 0.03, 0.8), (hand + 0.025, 0.46), (hand - 0.025, 0.46)]
        faces.append((np.array(shape), _COAT))
        if detail == 2:
            faces.append((regular_polygon(0.022, 6) + np.array((hand, 0.45)), _SKIN))

    if crossing:
        add_leg(0.0, 0.15 * swing, 0.03 * max(0.0, swing))
        add_arm(0.0, -0.12 * swing)
        add_leg(0.0, -0.15 * swing, 0.03 * max(0.0, -swing))
        faces.append((np.array(_SIDE_TORSO), _COAT))
        add_arm(0.0, 0.12 * swing)
    else:
        add_leg(-0.05, -0.05 + 0.015 * swing, 0.045 * max(0.0, swing))
        add_leg(0.05, 0.05 + 0.015 * swing, 0.045 * max(0.0, -swing))
        faces.append((np.array(_FRONT_TORSO), _COAT))
        add_arm(-0.135, -0.15)
        add_arm(0.135, 0.15)
        if detail == 2:
            faces.append((np.array(rectangle(0.13, 0.3, 0.21, 0.44)), _BAG))
            faces.append((np.array(rectangle(-0.025, 0.82, 0.025, 0.88)), _SKIN))
    faces.append((regular_polygon(0.058, 10) * (0.85, 1.15) + (0, 0.925), _SKIN))
    if detail == 2:
        faces.append((np.array(_HAIR_SHAPE), _HAIR))
    return _merge_faces(faces)


_CYCLIST_TORSO = [(-0.17, 0.92), (0.17, 0.92), (0.23, 1.4), (0.12, 1.5), (-0.12, 1.5), (-0.23, 1.4)]
_HELMET = [(-0.11, 1.66), (0.11, 1.66), (0.08, 1.76), (0.0, 1.79), (-0.08, 1.76)]


@dataclass(frozen=True, slots=True, eq=False)
class Cyclist:
    """A cyclist at one moment, seen from behind or from the front."""

    x: float
    z: float
    pedal_phase: float
    """Phase of the pedals, in radians."""
    colours: Colours
    """See ``clothing_colours``."""

    def draw(self, painter: Painter) -> None:
        """Add wheel, legs, torso, handlebar and head."""
        lift = 0.17 * math.sin(self.pedal_phase)
        faces: list[_Face] = [(regular_polygon(1.0, 12) * (0.035, 0.34) + (0, 0.34), _BICYCLE)]
        faces.append((np.array(rectangle(-0.03, 0.3, 0.03, 0.95)), _BICYCLE))
        for side, pedal in ((-1, lift), (1, -lift)):
            ankle_x, knee_x, hip_x = side * 0.09, side * 0.15, side * 0.1
            foot, knee = 0.3 + pedal, 0.72 + 0.6 * pedal
            shin = [(ankle_x - 0.05, foot), (ankle_x + 0.05, foot), (knee_x + 0.06, knee), (knee_x - 0.06, knee)]
            thigh = [(knee_x - 0.07, knee), (knee_x + 0.07, knee), (hip_x + 0.08, 1.0), (hip_x - 0.08, 1.0)]
            faces += [(np.array(shin), _TROUSERS), (np.array(thigh), _TROUSERS)]
            faces.append((np.array(rectangle(ankle_x - 0.06, foot - 0.06, ankle_x + 0.06, foot)), _SHOE))
        faces.append((np.array(rectangle(-0.3, 1.0, 0.3, 1.04)), _BICYCLE))
        faces.append((np.array(_CYCLIST_TORSO), _COAT))
        for side in (-1, 1):
            arm = [(side * 0.18, 1.42), (side * 0.26, 1.42), (side * 0.32, 1.04), (side * 0.25, 1.02)]
            faces.append((np.array(arm), _COAT))
        faces.append((regular_polygon(0.11, 10) * (0.85, 1.15) + (0, 1.63), _SKIN))
        faces.append((np.array(_HELMET), _BAG))
        points, ends, colours = _merge_faces(faces)
        painter.add_mesh(points, ends, self.colours[list(colours)], BICYCLIST, self.x, self.z)
