"""What a seed decides for a whole street: the camera, the layout, the light, the colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAR_M", "LEVELS_M", "Colours", "Length", "Look"]

FAR_M = 170.0
"""Nothing that stands farther away than this, in metres, is drawn."""

LEVELS_M = (14.0, 28.0, 48.0, 75.0, 110.0, 150.0)
"""Depths, in metres, for which textures are prepared: lit, hazed and shrunk."""

Length = TypeVar("Length", float, NDArray[np.float64])
"""One length or many, in metres."""

Colours = NDArray[np.float64]
"""BGR, float64 (3,) or (N, 3), 0..255 before light and haze."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """The choices that all images of one street share."""

    size: tuple[int, int]
    """(H, W) of the image, in pixels."""
    focal: float
    """Focal length, in pixels."""
    horizon: float
    """Row of the horizon while the camera is level, in pixels."""
    eye_m: float
    """Height of the camera above the road."""
    side: int
    """The side that traffic keeps to: -1 left, +1 right."""
    speed: float
    """Of the camera, in metres per second."""
    road_m: tuple[float, float]
    """From the middle line to the left and to the right kerb."""
    pavement_m: tuple[float, float]
    """Width of the left and of the right pavement."""
    setback_m: tuple[float, float]
    """From the pavement to the houses, left and right; 0 has no front gardens."""
    parking: tuple[float, float]
    """How much of the left and of the right kerb is taken by parked cars, 0..1; 0 has no room for them."""
    bends: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Of the middle line: (amplitude in metres, radians per metre, phase) of its sines."""
    sun: int
    """The side that the sun stands on: -1, +1, or 0 under clouds."""
    shade: float
    """How far the shade of the houses reaches from the kerb when the sun shines, as a part of the road."""
    gain: Colours
    """Strength and tint of the light: a factor for each of B, G, R."""
    haze: Colours
    """Colour that far things fade into."""
    haze_per_m: float
    """Of the light, this part is lost to haze on each metre."""
    road: Colours
    """Asphalt."""
    pavement: Colours
    """Paving."""
    ground: Colours
    """Grass or yard behind the pavement."""
    yard: bool
    """Whether the ground behind the pavement is paved; otherwise grass."""
    season: str
    """``green``, ``autumn`` or ``bare``: the crowns of the trees."""
    urban: float
    """How many of the plots are built up, 0..1."""
    crowd: float
    """Pedestrians in each stretch and side, on average."""
    traffic: float
    """Chance of an oncoming car in each stretch, 0..1."""
    noise: float
    """Standard deviation of the sensor noise, in grey levels."""

    @classmethod
    def of(cls, seed: int, size: tuple[int, int]) -> Look:
        """Choose everything for ``seed``. Apart from pixels, the choices do not depend on ``size``."""
        rng = np.random.default_rng((seed, 0x5EED))
        height, width = size
        side = -1 if rng.random() < 0.7 else 1
        parking = tuple(rng.uniform(0.15, 0.65) if rng.random() < 0.5 else 0.0 for _ in range(2))
        lane = rng.uniform(2.9, 3.7)
        road = (lane + 2.2 * (parking[0] > 0), lane + 2.2 * (parking[1] > 0))
        clear = rng.random() < 0.55
        warm = rng.uniform(-0.08, 0.08)
        light = rng.uniform(0.75, 1.15) if rng.random() < 0.8 else rng.uniform(0.4, 0.7)
        gain = light * np.array([1 - warm, 1.0, 1 + warm])
        grey = rng.uniform(70, 135)
        paving = rng.uniform(110, 175)
        yard = bool(rng.random() < 0.4)
        grass = np.array([45.0, 105.0, 80.0]) * rng.uniform(0.8, 1.2)
        haze = np.array([226.0, 219.0, 212.0]) * min(1.0, light + 0.15)
        return cls(
            size=size,
            focal=rng.uniform(0.78, 1.1) * width,
            horizon=rng.uniform(0.38, 0.52) * height,
            eye_m=rng.uniform(1.2, 1.8),
            side=side,
            speed=rng.uniform(7.0, 11.0),
            road_m=road,
            pavement_m=(rng.uniform(1.6, 3.8), rng.uniform(1.6, 3.8)),
            setback_m=(
                float(rng.choice([0.0, 0.0, 2.5, 4.0])),
                float(rng.choice([0.0, 0.0, 2.5, 4.0])),
            ),
            parking=(parking[0], parking[1]),
            bends=(_bend(rng, 31.0), _bend(rng, 67.0)),
            sun=int(rng.choice([-1, 1])) if clear else 0,
            # Not to the middle line, where the edge of the shade would be taken for it.
            shade=float(rng.choice([rng.uniform(0.08, 0.4), rng.uniform(0.58, 0.8)])),
            gain=gain,
            haze=haze,
            haze_per_m=rng.uniform(0.0006, 0.0025) if clear else rng.uniform(0.001, 0.006),
            road=grey * np.array([1.0, 0.99, 0.98]) + rng.uniform(-4, 4, 3),
            pavement=paving * np.array([0.94, 0.98, 1.0]) + rng.uniform(-8, 8, 3),
            ground=np.array([0.93, 0.97, 1.0]) * rng.uniform(90, 140) if yard else grass,
            yard=yard,
            season=str(rng.choice(["green", "green", "autumn", "bare", "bare"])),
            urban=rng.uniform(0.5, 0.97),
            crowd=rng.uniform(0.3, 1.6),
            traffic=rng.uniform(0.25, 0.8),
            noise=rng.uniform(1.0, 6.0),
        )

    def tone(self, colours: Colours, depth_m: float) -> list[list[float]]:
        """Colours (N, 3) as the camera sees them at ``depth_m``: N lists of B, G, R, not cut off at 255."""
        clear = math.exp(-self.haze_per_m * depth_m)
        return (colours * (self.gain * clear) + self.haze * (1 - clear)).tolist()  # type: ignore[no-any-return]

    def sunlight(self, side: int) -> float:
        """Factor for the light on a wall at ``side`` (-1 left, +1 right) that faces the street."""
        if self.sun == 0:
            return 0.9
        return 0.68 if side == self.sun else 1.12

    def shade_m(self) -> tuple[float, float]:
        """The part of the road in the shade of the houses, from x to x; empty under clouds."""
        kerb = self.kerb_m(self.sun or -1)
        reach = kerb - self.sun * self.shade * sum(self.road_m)
        return min(kerb, reach), max(kerb, reach)

    def light_at(self, x: float) -> float:
        """Factor for the light on the road at ``x``."""
        begin, end = self.shade_m()
        return 0.5 if begin < x < end else 1.0

    def pavement_light(self, side: int) -> float:
        """Factor for the light on the pavement at ``side``."""
        return 0.5 if side == self.sun else 1.0

    def bend_m(self, z: Length) -> Length:
        """Where the middle line runs, in metres to the right, at ``z``."""
        (a, rate_a, phase_a), (b, rate_b, phase_b) = self.bends
        bend: Length = a * np.sin(rate_a * z + phase_a) + b * np.sin(rate_b * z + phase_b)
        return bend

    def slope(self, z: Length) -> Length:
        """Derivative of ``bend_m``."""
        (a, rate_a, phase_a), (b, rate_b, phase_b) = self.bends
        slope: Length = a * rate_a * np.cos(rate_a * z + phase_a) + b * rate_b * np.cos(rate_b * z + phase_b)
        return slope

    def kerb_m(self, side: int) -> float:
        """x of the kerb at ``side`` (-1 left, +1 right)."""
        return side * self.road_m[side > 0]

    def edge_m(self, side: int) -> float:
        """x of the outer edge of the pavement."""
        return side * (self.road_m[side > 0] + self.pavement_m[side > 0])

    def front_m(self, side: int) -> float:
        """x of the fronts of the houses."""
        return self.edge_m(side) + side * self.setback_m[side > 0]


def _bend(rng: np.random.Generator, turn_m: float) -> tuple[float, float, float]:
    return rng.uniform(0.3, 1.0) * 60.0 / turn_m, 1 / turn_m, rng.uniform(0, 2 * math.pi)
