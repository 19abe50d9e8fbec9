"""What stands and moves where: made stretch by stretch, each from the seed and its own number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from rtseg.synthetic.street import textures as _textures
from rtseg.synthetic.street.appearance import FAR_M, Colours, Look
from rtseg.synthetic.street.canvas import NEAR_M, Texture
from rtseg.synthetic.street.moving_objects import Car, Cyclist, Person, car_colours, clothes
from rtseg.synthetic.street.static_objects import House, Lamp, Post, Sign, Thing, Tree, Wall

__all__ = ["STRETCH_M", "Mark", "Scene", "Stretch"]

STRETCH_M = 24.0
"""Length of a stretch of road."""
KERB_M = 0.12
"""Height of the pavement above the road."""
_WALK = 1.35
_RIDE = 4.5
_KINDS = ("hatchback", "hatchback", "saloon", "saloon", "offroad", "van")


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """A patch on the road: paint, a repair, a manhole. The class stays Road."""

    points: Colours
    """A convex polygon in x, 0, z from the start of its stretch."""
    colour: Colours


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """One stretch of road and all that belongs to it."""

    things: list[Thing] = field(default_factory=list)
    movers: list[Callable[[float], Thing]] = field(default_factory=list)
    """Each gives a thing as it is at a time in seconds."""
    marks: list[Mark] = field(default_factory=list)
    zebra: float | None = None
    """z of the middle of a zebra crossing."""


class Scene:
    """The contents of a street, from the seed and the number of the stretch alone."""

    def __init__(self, look: Look, seed: int) -> None:
        self.look = look
        self._seed = seed
        rng = np.random.default_rng((seed, 0x7E87))
        self._fronts = {side: [_textures.front(rng, look, side) for _ in range(5)] for side in (-1, 1)}
        self._crowns = [_textures.crown(rng, look) for _ in range(3)]
        self._fences = [_textures.fence(rng, look) for _ in range(2)]
        self._hedge = _textures.hedge(rng, look)
        self._lamp = (float(rng.uniform(6.0, 9.0)), np.full(3, rng.uniform(50, 150)))
        self._post = np.full(3, rng.uniform(25, 70))
        self._oncoming = float(rng.uniform(6.0, 10.0))
        self._leader = (
            "bus" if rng.random() < 0.08 else str(rng.choice(_KINDS)),
            car_colours(rng, rear=True),
        )
        self._second = (str(rng.choice(_KINDS)), car_colours(rng, rear=True))
        self._gap = (rng.uniform(9, 22), rng.uniform(10, 45), rng.uniform(0.08, 0.2), rng.uniform(0, 6.3))
        # Bound: a long video must not gather the whole street.
        self.stretch = lru_cache(maxsize=64)(self._make)

    def visible(self, z: float, time_s: float) -> list[Thing]:
        """All that a camera at ``z`` can see at ``time_s``, from far to near."""
        things: list[Thing] = []
        first = math.floor(z / STRETCH_M)
        # People and bicycles leave their stretch, by no more than two stretches while they can be seen.
        for number in range(first - 2, first + math.ceil(FAR_M / STRETCH_M) + 3):
            stretch = self.stretch(number)
            things += stretch.things
            things += [mover(time_s) for mover in stretch.movers]
        things += self._ahead(z, time_s)
        # A thing is cut off at the near plane: what has its far end behind that is out of sight.
        seen = [
            thing for thing in things if z + NEAR_M - (11.0 if isinstance(thing, Car) else 0.0) < thing.z < z + FAR_M
        ]
        seen.sort(key=lambda thing: -thing.z)
        return seen

    def marks(self, z: float) -> Iterator[tuple[float, Stretch]]:
        """The stretches whose ground is near enough to show details, with the z at which each begins."""
        first = math.floor(z / STRETCH_M)
        for number in range(first, first + 4):
            yield number * STRETCH_M, self.stretch(number)

    def _ahead(self, z: float, time_s: float) -> list[Thing]:
        least, swing, rate, phase = self._gap
        gap = least + swing * (1 + math.sin(rate * time_s + phase))
        second = gap + 14 + 0.5 * swing * (1 + math.sin(0.7 * rate * time_s + 2 * phase))
        x = self.look.side * 1.65
        return [
            Car(x, z + gap, self._leader[0], True, self._leader[1]),
            Car(x, z + second, self._second[0], True, self._second[1]),
        ]

    def _make(self, number: int) -> Stretch:
        rng = np.random.default_rng((self._seed, 1, number % 2**32))
        stretch = Stretch()
        for side in (-1, 1):
            self._plots(rng, stretch, number, side)
            self._furniture(rng, stretch, number, side)
            self._people(rng, stretch, number, side)
        self._vehicles(rng, stretch, number)
        self._ground(rng, stretch, number)
        return stretch

    def _plots(self, rng: np.random.Generator, stretch: Stretch, number: int, side: int) -> None:
        look = self.look
        z = number * STRETCH_M
        cuts = ([1.0], [0.5, 1.0], [0.4, 1.0], [0.6, 1.0], [0.33, 0.68, 1.0])[rng.integers(5)]
        for begin, end in zip([0.0, *cuts], cuts, strict=False):
            near, far = z + begin * STRETCH_M, z + end * STRETCH_M
            built = rng.random() < look.urban
            x = look.front_m(side)
            if built:
                front, wall = self._fronts[side][rng.integers(5)]
                height = front.metres[0] * rng.uniform(0.9, 1.15)
                roof = None
                if rng.random() < 0.5:
                    roof = np.array([(62.0, 60, 66), (55, 75, 120), (80, 82, 85)][rng.integers(3)]) * look.sunlight(
                        side
                    )
                stretch.things.append(House(side, x, near, far, height, front, wall * 0.8, roof))
            else:
                for _ in range(rng.integers(2, 5)):
                    self._tree(rng, stretch, x + side * rng.uniform(1.5, 9.0), rng.uniform(near + 1, far - 1), 1.2)
            if not built or look.setback_m[side > 0] > 0:
                self._border(rng, stretch, look.edge_m(side) + 0.1 * side, near, far)

    def _border(self, rng: np.random.Generator, stretch: Stretch, x: float, near: float, far: float) -> None:
        texture: Texture = self._hedge if rng.random() < 0.4 else self._fences[rng.integers(2)]
        # Pieces of about the texture's own length keep its bars apart as they should be.
        count = max(round((far - near) / texture.metres[1]), 1)
        step = (far - near) / count
        for piece in range(count):
            stretch.things.append(Wall(x, near + piece * step, near + (piece + 1) * step, texture))

    def _tree(self, rng: np.random.Generator, stretch: Stretch, x: float, z: float, scale: float = 1.0) -> None:
        bark = np.array([0.85, 0.95, 1.0]) * rng.uniform(45, 85)
        height = rng.uniform(5.0, 9.5) * scale
        stretch.things.append(Tree(x, z, height, self._crowns[rng.integers(3)], bark))

    def _furniture(self, rng: np.random.Generator, stretch: Stretch, number: int, side: int) -> None:
        look = self.look
        z = number * STRETCH_M
        at_kerb = look.kerb_m(side) + side * 0.45
        if (number + (side > 0)) % 2 == 0:
            stretch.things.append(Lamp(side, at_kerb, z + 3.0, *self._lamp))
        if rng.random() < 0.35:
            kind = str(rng.choice(["ban", "warning", "order", "board", "light"], p=[0.22, 0.18, 0.22, 0.18, 0.2]))
            tint = np.array([(160.0, 70, 20), (60, 110, 20), (20, 190, 230), (60, 60, 60)][rng.integers(4)])
            if kind == "light":
                tint = np.eye(3)[rng.integers(3)]
            stretch.things.append(Sign(at_kerb, z + rng.uniform(6, 10), rng.uniform(2.1, 2.9), kind, tint))
        if rng.random() < 0.35 * (1.2 - look.urban) + 0.1:
            self._tree(rng, stretch, look.kerb_m(side) + side * 0.8, z + rng.uniform(11, 16))
        if rng.random() < 0.18:
            for place in range(int(rng.integers(2, 6))):
                stretch.things.append(Post(look.kerb_m(side) + side * 0.3, z + 16.5 + 1.5 * place, 1.0, self._post))

    def _people(self, rng: np.random.Generator, stretch: Stretch, number: int, side: int) -> None:
        look = self.look
        begin = number * STRETCH_M
        inner, outer = look.kerb_m(side) + side * 0.7, look.edge_m(side) - side * 0.4
        for _ in range(rng.poisson(look.crowd)):
            x, z = rng.uniform(min(inner, outer), max(inner, outer)), begin + rng.uniform(0, STRETCH_M)
            still = rng.random() < 0.2
            pace = 0.0 if still else float(rng.choice([-1, 1])) * _WALK * rng.uniform(0.8, 1.2)
            stretch.movers.append(_walk(rng, x, z, pace, z / look.speed))

    def _vehicles(self, rng: np.random.Generator, stretch: Stretch, number: int) -> None:
        look = self.look
        begin = number * STRETCH_M
        for side in (-1, 1):
            if not look.parking[side > 0]:
                continue
            for place in range(4):
                if rng.random() < look.parking[side > 0]:
                    rear = (side == look.side) != (rng.random() < 0.1)
                    x, z = look.kerb_m(side) - side * 1.1, begin + 0.4 + 6.0 * place + rng.uniform(0, 0.4)
                    kind = str(rng.choice(_KINDS))
                    stretch.things.append(Car(x, z, kind, rear, car_colours(rng, rear=rear)))
        if rng.random() < look.traffic:
            kind = "bus" if rng.random() < 0.06 else str(rng.choice(_KINDS))
            x, z = -look.side * 1.65 + rng.uniform(-0.15, 0.15), begin + rng.uniform(0, 10)
            stretch.movers.append(_drive(rng, x, z, kind, -self._oncoming, z / look.speed))
        if rng.random() < 0.12:
            ahead = 1 if rng.random() < 0.6 else -1
            x, z = ahead * look.side * 2.65, begin + rng.uniform(12, 20)
            stretch.movers.append(_ride(rng, x, z, ahead * _RIDE, z / look.speed))

    def _ground(self, rng: np.random.Generator, stretch: Stretch, number: int) -> None:
        look = self.look
        left, right = look.kerb_m(-1), look.kerb_m(1)
        for _ in range(rng.poisson(0.8)):  # repairs
            x, z = rng.uniform(left + 0.5, right - 2), rng.uniform(0, STRETCH_M - 5)
            w, long = rng.uniform(0.5, 1.6), rng.uniform(0.8, 5)
            stretch.marks.append(Mark(_flat(x, z, x + w, z + long), look.road * rng.uniform(0.78, 1.12)))
        for _ in range(rng.poisson(0.6)):  # manholes
            angle = np.arange(12) * (2 * np.pi / 12)
            x, z = rng.uniform(left + 1, right - 1), rng.uniform(1, STRETCH_M - 1)
            ring = np.column_stack([x + 0.33 * np.cos(angle), np.zeros(12), z + 0.33 * np.sin(angle)])
            stretch.marks.append(Mark(ring, look.road * 0.6))
        if rng.random() < 0.1:
            middle = STRETCH_M / 2
            for x in np.arange(left + 0.4, right - 0.7, 1.2):
                stretch.marks.append(Mark(_flat(x, middle - 1.4, x + 0.6, middle + 1.4), np.full(3, 205.0)))
            self._crossing(rng, stretch, number * STRETCH_M + middle)
        elif rng.random() < 0.12 * look.crowd:
            self._crossing(rng, stretch, number * STRETCH_M + rng.uniform(4, 20))

    def _crossing(self, rng: np.random.Generator, stretch: Stretch, z: float) -> None:
        for _ in range(rng.integers(1, 3)):
            # On the middle line some seconds before the camera comes, so that nobody is run over.
            stretch.movers.append(
                _cross(rng, self.look, z + rng.uniform(-1, 1), z / self.look.speed - rng.uniform(3.5, 5.5))
            )


def _flat(x0: float, z0: float, x1: float, z1: float) -> Colours:
    return np.array([(x0, 0.0, z0), (x1, 0.0, z0), (x1, 0.0, z1), (x0, 0.0, z1)])


def _walk(rng: np.random.Generator, x: float, z: float, pace: float, met_s: float) -> Callable[[float], Thing]:
    colours, tall, phase = clothes(rng), float(rng.uniform(1.2, 1.9)), rng.uniform(0, 6)

    def at(time_s: float) -> Thing:
        step = phase + (4.4 * pace * time_s if pace else 0.0)
        return Person(x, z + pace * (time_s - met_s), KERB_M, tall, step, False, colours)

    return at


def _cross(rng: np.random.Generator, look: Look, z: float, middle_s: float) -> Callable[[float], Thing]:
    colours, tall, pace = clothes(rng), float(rng.uniform(1.5, 1.9)), float(rng.choice([-1, 1])) * _WALK
    left, right = look.kerb_m(-1) - 1.0, look.kerb_m(1) + 1.0

    def at(time_s: float) -> Thing:
        x = pace * (time_s - middle_s)
        walking = left < x < right
        x = min(max(x, left), right)
        foot = 0.0 if look.kerb_m(-1) < x < look.kerb_m(1) else KERB_M
        return Person(x, z, foot, tall, 4.4 * _WALK * time_s if walking else 0.3, walking, colours)

    return at


def _drive(
    rng: np.random.Generator, x: float, z: float, kind: str, pace: float, met_s: float
) -> Callable[[float], Thing]:
    colours = car_colours(rng, rear=False)

    def at(time_s: float) -> Thing:
        return Car(x, z + pace * (time_s - met_s), kind, False, colours)

    return at


def _ride(rng: np.random.Generator, x: float, z: float, pace: float, met_s: float) -> Callable[[float], Thing]:
    colours = clothes(rng)

    def at(time_s: float) -> Thing:
        return Cyclist(x, z + pace * (time_s - met_s), 5.0 * time_s, colours)

    return at
