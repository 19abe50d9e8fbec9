"""The contents of a street, created section by section from the seed and the section's number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from rtseg.synthetic.street import textures
from rtseg.synthetic.street.appearance import FAR_M, Appearance, Colours
from rtseg.synthetic.street.canvas import NEAR_M, Points, Texture
from rtseg.synthetic.street.moving_objects import Car, Cyclist, Pedestrian, car_colours, clothing_colours
from rtseg.synthetic.street.roadside import Postbox, Roadside, long_shadows
from rtseg.synthetic.street.static_objects import Barrier, Bollard, House, Sign, StreetLamp, StreetObject, Tree

__all__ = ["KERB_HEIGHT_M", "RoadMark", "RoadSection", "Scene"]

SECTION_M = 24.0
"""Length of a road section."""
KERB_HEIGHT_M = 0.12
"""Height of the pavement above the road."""
_WALKING_SPEED = 1.35
_CYCLING_SPEED = 4.5
_CAR_KINDS = ("hatchback", "hatchback", "saloon", "saloon", "offroad", "van")
_SIGN_KINDS = ("prohibition", "warning", "mandatory", "board", "traffic_light")
_BOARD_COLOURS = ((160.0, 70, 20), (60, 110, 20), (20, 190, 230), (60, 60, 60))
_POSTBOX_COLOURS = ((30.0, 25, 170), (30, 190, 230), (150, 70, 20), (70, 90, 60), (125, 125, 125))
_ROOF_COLOURS = ((62.0, 60, 66), (55, 75, 120), (80, 82, 85))
_PLOT_ENDS = ((1.0,), (0.5, 1.0), (0.4, 1.0), (0.6, 1.0), (0.33, 0.68, 1.0))
"""Ways to divide a section into plots: where each plot ends, as a share of the section."""

Trajectory = Callable[[float], StreetObject]
"""Returns a moving object as it is at a time in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class RoadMark:
    """A patch on the road: paint, a repair, a manhole cover. Its class is Road."""

    points: Points
    """A convex polygon in x, 0, z from the start of its section."""
    colour: Colours


@dataclass(frozen=True, slots=True, eq=False)
class RoadSection:
    """One section of the road and everything that belongs to it."""

    static: list[StreetObject] = field(default_factory=list)
    moving: list[Trajectory] = field(default_factory=list)
    marks: list[RoadMark] = field(default_factory=list)
    shadows: list[Points] = field(default_factory=list)
    """Outlines in x and z from the start of the section."""


class Scene:
    """The contents of a street. Each section depends only on the seed and its number."""

    def __init__(self, look: Appearance, seed: int) -> None:
        self.look = look
        self._seed = seed
        rng = np.random.default_rng((seed, 0x7E87))
        self._facades = {side: [textures.facade(rng, look, side) for _ in range(5)] for side in (-1, 1)}
        self._crowns = [textures.tree_crown(rng, look) for _ in range(3)]
        self._fences = [textures.fence(rng, look) for _ in range(2)]
        self._hedge = textures.hedge(rng, look)
        self._lamp = (float(rng.uniform(6.0, 9.0)), np.full(3, rng.uniform(50, 150)))
        self._bollard_colour = np.full(3, rng.uniform(25, 70))
        self._oncoming_speed = float(rng.uniform(6.0, 10.0))
        self._first_car = (
            "bus" if rng.random() < 0.08 else str(rng.choice(_CAR_KINDS)),
            car_colours(rng, rear=True),
        )
        self._second_car = (str(rng.choice(_CAR_KINDS)), car_colours(rng, rear=True))
        self._gap = (rng.uniform(9, 22), rng.uniform(10, 45), rng.uniform(0.08, 0.2), rng.uniform(0, 6.3))
        self._roadside = Roadside(look, np.random.default_rng((seed, 0x20AD))) if look.layout != "street" else None
        self._beside = _cars_beside(look, np.random.default_rng((seed, 0xCA25)))
        self._slant = float(np.random.default_rng((seed, 0x5A)).uniform(-1.2, 1.2))
        # Bounded, so that a long video does not keep the whole street in memory.
        self.section = lru_cache(maxsize=64)(self._create_section)

    def visible(self, z: float, time_s: float) -> list[StreetObject]:
        """Return all objects that a camera at ``z`` can see at ``time_s``, from far to near."""
        objects: list[StreetObject] = []
        first = math.floor(z / SECTION_M)
        # Pedestrians and cyclists leave their section, but by at most two sections while they are visible.
        for number in range(first - 2, first + math.ceil(FAR_M / SECTION_M) + 3):
            section = self.section(number)
            objects += section.static
            objects += [at_time(time_s) for at_time in section.moving]
        objects += self._cars_ahead(z, time_s)
        # Clipping at the near plane hides objects whose far end is closer. A car's z is its near end.
        near = z + NEAR_M
        seen = [item for item in objects if near - (11.0 if isinstance(item, Car) else 0.0) < item.z < z + FAR_M]
        seen.sort(key=lambda item: -item.z)
        return seen

    def near_sections(self, z: float) -> Iterator[tuple[float, RoadSection]]:
        """Yield the sections close enough to show road marks, with the z where each begins."""
        first = math.floor(z / SECTION_M)
        for number in range(first, first + 4):
            yield number * SECTION_M, self.section(number)

    def _cars_ahead(self, z: float, time_s: float) -> list[StreetObject]:
        """Return the two cars that drive in front of the camera at varying distances."""
        least, swing, rate, phase = self._gap
        gap = least + swing * (1 + math.sin(rate * time_s + phase))
        second_gap = gap + 14 + 0.5 * swing * (1 + math.sin(0.7 * rate * time_s + 2 * phase))
        x = self.look.side * 1.65
        return [
            Car(x, z + gap, self._first_car[0], True, self._first_car[1]),
            Car(x, z + second_gap, self._second_car[0], True, self._second_car[1]),
            *(car_at(z, time_s) for car_at in self._beside),
        ]

    def _create_section(self, number: int) -> RoadSection:
        rng = np.random.default_rng((self._seed, 1, number % 2**32))
        section = RoadSection()
        begin = number * SECTION_M
        if self._roadside is not None:
            self._add_roadside(self._roadside, rng, section, begin)
        for side in (-1, 1) if self._roadside is None else ():
            self._add_plots(rng, section, begin, side)
            self._add_street_furniture(rng, section, number, side)
            self._add_pedestrians(rng, section, begin, side)
        self._add_vehicles(rng, section, begin)
        self._add_road_marks(rng, section, begin)
        if self.look.shadows:
            section.shadows.extend(long_shadows(rng, self.look, self._slant, SECTION_M))
        return section

    def _add_roadside(self, roadside: Roadside, rng: np.random.Generator, section: RoadSection, begin: float) -> None:
        look = self.look
        section.static.extend(roadside.above(rng, begin))
        for side in (-1, 1):
            section.static.extend(roadside.objects(rng, begin, SECTION_M, side))
            # Behind the barrier of a motorway is its other carriageway.
            away = 18.0 if look.opposite and side != look.side else 4.0
            for _ in range(rng.poisson(1.6)):
                x = look.kerb_m(side) + side * (away + rng.exponential(6.0))
                self._add_tree(rng, section, x, begin + rng.uniform(0, SECTION_M), rng.uniform(0.5, 1.5))
            if rng.random() < look.urban:
                facade, wall = self._facades[side][rng.integers(5)]
                x = look.kerb_m(side) + side * (away + rng.uniform(4, 15))
                far = begin + rng.uniform(8, SECTION_M)
                section.static.append(House(side, x, begin, far, facade.size_m[0], facade, wall * 0.8, None))
            self._add_pedestrians(rng, section, begin, side)
        for lane in range(look.opposite):
            if rng.random() < 0.3:
                x = look.kerb_m(-look.side) - look.side * (3.0 + 3.5 * lane)
                z = begin + rng.uniform(0, 12)
                kind = "bus" if rng.random() < 0.2 else str(rng.choice(_CAR_KINDS))
                section.moving.append(_drive(rng, x, z, kind, -look.speed, z / look.speed))

    def _add_plots(self, rng: np.random.Generator, section: RoadSection, z: float, side: int) -> None:
        look = self.look
        ends = _PLOT_ENDS[rng.integers(5)]
        for plot_begin, plot_end in zip((0.0, *ends), ends, strict=False):
            near, far = z + plot_begin * SECTION_M, z + plot_end * SECTION_M
            built = rng.random() < look.urban
            x = look.facade_m(side)
            if built:
                facade, wall = self._facades[side][rng.integers(5)]
                height = facade.size_m[0] * rng.uniform(0.9, 1.15)
                roof = None
                if rng.random() < 0.5:
                    roof = np.array(_ROOF_COLOURS[rng.integers(3)]) * look.sunlight(side)
                section.static.append(House(side, x, near, far, height, facade, wall * 0.8, roof))
            else:
                for _ in range(rng.integers(2, 5)):
                    self._add_tree(rng, section, x + side * rng.uniform(1.5, 9.0), rng.uniform(near + 1, far - 1), 1.2)
            if not built or look.setback_m[side > 0] > 0:
                self._add_barrier(rng, section, look.edge_m(side) + 0.1 * side, near, far)

    def _add_barrier(self, rng: np.random.Generator, section: RoadSection, x: float, near: float, far: float) -> None:
        texture: Texture = self._hedge if rng.random() < 0.4 else self._fences[rng.integers(2)]
        # Pieces of about the texture's natural length keep the spacing of its bars.
        count = max(round((far - near) / texture.size_m[1]), 1)
        step = (far - near) / count
        for piece in range(count):
            section.static.append(Barrier(x, near + piece * step, near + (piece + 1) * step, texture))

    def _add_tree(self, rng: np.random.Generator, section: RoadSection, x: float, z: float, scale: float = 1.0) -> None:
        bark = np.array([0.85, 0.95, 1.0]) * rng.uniform(45, 85)
        height = rng.uniform(5.0, 9.5) * scale
        section.static.append(Tree(x, z, height, self._crowns[rng.integers(3)], bark))

    def _add_street_furniture(self, rng: np.random.Generator, section: RoadSection, number: int, side: int) -> None:
        look = self.look
        z = number * SECTION_M
        kerb = look.kerb_m(side)
        at_kerb = kerb + side * 0.45
        if (number + (side > 0)) % 2 == 0:
            section.static.append(StreetLamp(side, at_kerb, z + 3.0, *self._lamp))
        if rng.random() < 0.35:
            kind = str(rng.choice(_SIGN_KINDS, p=[0.22, 0.18, 0.22, 0.18, 0.2]))
            tint = np.array(_BOARD_COLOURS[rng.integers(4)])
            if kind == "traffic_light":
                tint = np.eye(3)[rng.integers(3)]
            section.static.append(Sign(at_kerb, z + rng.uniform(6, 10), rng.uniform(2.1, 2.9), kind, tint))
        if rng.random() < 0.35 * (1.2 - look.urban) + 0.1:
            self._add_tree(rng, section, kerb + side * 0.8, z + rng.uniform(11, 16))
        if rng.random() < 0.18:
            for index in range(int(rng.integers(2, 6))):
                section.static.append(Bollard(kerb + side * 0.3, z + 16.5 + 1.5 * index, 1.0, self._bollard_colour))

        if look.postboxes and rng.random() < look.postboxes:
            colour = np.array(_POSTBOX_COLOURS[rng.integers(len(_POSTBOX_COLOURS))]) * rng.uniform(0.7, 1.1)
            width, height = rng.uniform(0.35, 0.7), rng.uniform(1.1, 1.8)
            section.static.append(Postbox(kerb + side * 0.7, z + rng.uniform(0, 23), width, height, colour))

    def _add_pedestrians(self, rng: np.random.Generator, section: RoadSection, begin: float, side: int) -> None:
        look = self.look
        inner, outer = look.kerb_m(side) + side * 0.7, look.edge_m(side) - side * 0.4
        for _ in range(rng.poisson(look.crowd)):
            x, z = rng.uniform(min(inner, outer), max(inner, outer)), begin + rng.uniform(0, SECTION_M)
            standing = rng.random() < 0.2
            speed = 0.0 if standing else float(rng.choice([-1, 1])) * _WALKING_SPEED * rng.uniform(0.8, 1.2)
            section.moving.append(_walk_along(rng, x, z, speed, z / look.speed))

    def _add_vehicles(self, rng: np.random.Generator, section: RoadSection, begin: float) -> None:
        look = self.look
        for side in (-1, 1):
            if not look.parking[side > 0]:
                continue
            for space in range(4):
                if rng.random() < look.parking[side > 0]:
                    rear = (side == look.side) != (rng.random() < 0.1)
                    x, z = look.kerb_m(side) - side * 1.1, begin + 0.4 + 6.0 * space + rng.uniform(0, 0.4)
                    kind = str(rng.choice(_CAR_KINDS))
                    section.static.append(Car(x, z, kind, rear, car_colours(rng, rear=rear)))
        if look.layout != "motorway" and rng.random() < look.traffic:
            kind = "bus" if rng.random() < 0.06 else str(rng.choice(_CAR_KINDS))
            x, z = -look.side * 1.65 + rng.uniform(-0.15, 0.15), begin + rng.uniform(0, 10)
            section.moving.append(_drive(rng, x, z, kind, -self._oncoming_speed, z / look.speed))
        if rng.random() < look.cyclists:
            direction = 1 if rng.random() < 0.6 else -1
            x, z = direction * look.side * 2.65, begin + rng.uniform(12, 20)
            section.moving.append(_cycle(rng, x, z, direction * _CYCLING_SPEED, z / look.speed))

    def _add_road_marks(self, rng: np.random.Generator, section: RoadSection, begin: float) -> None:
        look = self.look
        left, right = look.kerb_m(-1), look.kerb_m(1)
        for _ in range(rng.poisson(0.8)):  # repairs
            x, z = rng.uniform(left + 0.5, right - 2), rng.uniform(0, SECTION_M - 5)
            width, length = rng.uniform(0.5, 1.6), rng.uniform(0.8, 5)
            corners = _ground_rectangle(x, z, x + width, z + length)
            section.marks.append(RoadMark(corners, look.road * rng.uniform(0.78, 1.12)))
        for _ in range(rng.poisson(0.6)):  # manhole covers
            angle = np.arange(12) * (2 * np.pi / 12)
            x, z = rng.uniform(left + 1, right - 1), rng.uniform(1, SECTION_M - 1)
            ring = np.column_stack([x + 0.33 * np.cos(angle), np.zeros(12), z + 0.33 * np.sin(angle)])
            section.marks.append(RoadMark(ring, look.road * 0.6))
        if look.layout != "motorway" and rng.random() < 0.1:  # a zebra crossing
            middle = SECTION_M / 2
            for x in np.arange(left + 0.4, right - 0.7, 1.2):
                corners = _ground_rectangle(x, middle - 1.4, x + 0.6, middle + 1.4)
                section.marks.append(RoadMark(corners, np.full(3, 205.0)))
            self._add_crossing_pedestrians(rng, section, begin + middle)
        elif rng.random() < 0.12 * look.crowd:
            self._add_crossing_pedestrians(rng, section, begin + rng.uniform(4, 20))

    def _add_crossing_pedestrians(self, rng: np.random.Generator, section: RoadSection, z: float) -> None:
        for _ in range(rng.integers(1, 3)):
            # They reach the centre line some seconds before the camera arrives, so the camera does not hit them.
            offset, early_s = rng.uniform(-1, 1), rng.uniform(3.5, 5.5)
            section.moving.append(_walk_across(rng, self.look, z + offset, z / self.look.speed - early_s))


def _cars_beside(look: Appearance, rng: np.random.Generator) -> list[Callable[[float, float], StreetObject]]:
    """Return the cars on the other lanes of a motorway: functions of the camera's z and the time."""
    if look.layout != "motorway":
        return []
    cars = []
    for lane in (
        lane for lane in range(-look.lanes[0], look.lanes[1]) if (lane >= 0) != (look.side > 0) or lane not in (-1, 0)
    ):
        gap = rng.uniform(2, 25)
        while gap < FAR_M:
            cars.append(_drive_beside(rng, 3.5 * lane + 1.75, gap))
            gap += 8 + rng.exponential(30.0)
    return cars


def _drive_beside(rng: np.random.Generator, x: float, gap: float) -> Callable[[float, float], StreetObject]:
    kind = "bus" if rng.random() < 0.2 else str(rng.choice(_CAR_KINDS))
    colours, rate, phase = car_colours(rng, rear=True), rng.uniform(0.05, 0.2), rng.uniform(0, 6.3)
    return lambda z, time_s: Car(x, z + gap + 4 * math.sin(rate * time_s + phase), kind, True, colours)


def _ground_rectangle(x0: float, z0: float, x1: float, z1: float) -> Points:
    return np.array([(x0, 0.0, z0), (x1, 0.0, z0), (x1, 0.0, z1), (x0, 0.0, z1)])


# The functions below take a position along the road and the time at which the object is there.


def _walk_along(rng: np.random.Generator, x: float, z: float, speed: float, time_at_z: float) -> Trajectory:
    colours, height, phase = clothing_colours(rng), float(rng.uniform(1.2, 1.9)), rng.uniform(0, 6)

    def at_time(time_s: float) -> StreetObject:
        step_phase = phase + (4.4 * speed * time_s if speed else 0.0)
        return Pedestrian(x, z + speed * (time_s - time_at_z), KERB_HEIGHT_M, height, step_phase, False, colours)

    return at_time


def _walk_across(rng: np.random.Generator, look: Appearance, z: float, time_at_centre: float) -> Trajectory:
    colours, height = clothing_colours(rng), float(rng.uniform(1.5, 1.9))
    speed = float(rng.choice([-1, 1])) * _WALKING_SPEED
    left, right = look.kerb_m(-1) - 1.0, look.kerb_m(1) + 1.0

    def at_time(time_s: float) -> StreetObject:
        x = speed * (time_s - time_at_centre)
        walking = left < x < right
        x = min(max(x, left), right)
        ground_y = 0.0 if look.kerb_m(-1) < x < look.kerb_m(1) else KERB_HEIGHT_M
        step_phase = 4.4 * _WALKING_SPEED * time_s if walking else 0.3
        return Pedestrian(x, z, ground_y, height, step_phase, walking, colours)

    return at_time


def _drive(rng: np.random.Generator, x: float, z: float, kind: str, speed: float, time_at_z: float) -> Trajectory:
    colours = car_colours(rng, rear=False)
    return lambda time_s: Car(x, z + speed * (time_s - time_at_z), kind, False, colours)


def _cycle(rng: np.random.Generator, x: float, z: float, speed: float, time_at_z: float) -> Trajectory:
    colours = clothing_colours(rng)
    return lambda time_s: Cyclist(x, z + speed * (time_s - time_at_z), 5.0 * time_s, colours)
