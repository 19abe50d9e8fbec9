"""The properties of a street that its seed decides: camera, layout, light, colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAR_M", "TEXTURE_DEPTHS_M", "Appearance", "Colours", "Length"]

FAR_M = 170.0
"""Objects beyond this depth in metres are not drawn."""

TEXTURE_DEPTHS_M = (14.0, 28.0, 48.0, 75.0, 110.0, 150.0)
"""Depth levels in metres for which textures are prepared with light, haze and scale."""

Length = TypeVar("Length", float, NDArray[np.float64])
"""One length or an array of lengths, in metres."""

Colours = NDArray[np.float64]
"""BGR, float64 (3,) or (N, 3), 0..255 before light and haze."""


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """The properties that all images of one street share."""

    size: tuple[int, int]
    """(H, W) of the image, in pixels."""
    focal: float
    """Focal length, in pixels."""
    horizon: float
    """Row of the horizon while the camera is level, in pixels."""
    eye_m: float
    """Height of the camera above the road, in metres."""
    side: int
    """Side of the road that traffic drives on: -1 left, +1 right."""
    speed: float
    """Speed of the camera, in metres per second."""
    road_m: tuple[float, float]
    """Distance from the centre line to the left and right kerb."""
    pavement_m: tuple[float, float]
    """Width of the left and right pavement."""
    setback_m: tuple[float, float]
    """Distance from the pavement to the houses, left and right; 0 means no front gardens."""
    parking: tuple[float, float]
    """Share of the left and right kerb taken by parked cars, in [0, 1]; 0 means no parking lane."""
    bends: tuple[tuple[float, float, float], tuple[float, float, float]]
    """The two sine waves of the centre line: (amplitude in metres, radians per metre, phase)."""
    sun: int
    """Side of the sun: -1 left, +1 right, 0 if overcast."""
    shadow: float
    """How far the shadow of the houses extends from the kerb in sunshine, as a share of the road width."""
    gain: Colours
    """Strength and tint of the light: factors for B, G, R."""
    haze: Colours
    """Colour that distant objects fade to."""
    haze_per_m: float
    """Share of the light lost to haze per metre."""
    road: Colours
    """Colour of the asphalt."""
    pavement: Colours
    """Colour of the pavement."""
    ground: Colours
    """Colour of the grass or yard behind the pavement."""
    yard: bool
    """Whether the ground behind the pavement is paved; otherwise it is grass."""
    season: str
    """State of the trees: ``green``, ``autumn`` or ``bare``."""
    urban: float
    """Share of the plots with a house, in [0, 1]."""
    crowd: float
    """Mean number of pedestrians per road section and side."""
    traffic: float
    """Probability of an oncoming car per road section, in [0, 1]."""
    noise: float
    """Standard deviation of the sensor noise, in grey levels."""
    layout: str = "street"
    """``street``; ``motorway`` or ``country``, which have no kerbs and no pavements."""
    lanes: tuple[int, int] = (1, 1)
    """Lanes left and right of the centre line; on a motorway all in the direction of the camera."""
    opposite: int = 0
    """Lanes of a motorway in the other direction, behind the barrier."""
    edges: tuple[str, str] = ("", "")
    """What stands beside the road, left and right: ``rail``, ``concrete``, ``wall`` or nothing."""
    banks_m: tuple[float, float] = (0.0, 0.0)
    """Height of the slopes beside the road."""
    lane_tints: tuple[float, ...] = ()
    """Factors on the colour of the asphalt of each lane, from the left; empty if all are equal."""
    shoulder_tints: tuple[float, float] = (1.0, 1.0)
    """Factors on the colour of the asphalt beyond the edge lines of a motorway, left and right."""
    yellow_edge: bool = False
    """Whether the edge line of a motorway beside the other direction is yellow, as in America."""
    cyclists: float = 0.12
    """Probability of a cyclist per road section, in [0, 1]."""
    postboxes: float = 0.0
    """Probability of a postbox per road section and side, in [0, 1]."""
    shadows: float = 0.0
    """Mean number of long shadows across the road per road section."""

    @classmethod
    def from_seed(cls, seed: int, size: tuple[int, int]) -> Appearance:
        """Draw all properties from ``seed``. Only values in pixels depend on ``size``."""
        rng = np.random.default_rng((seed, 0x5EED))
        height, width = size
        side = -1 if rng.random() < 0.7 else 1
        parking = tuple(rng.uniform(0.15, 0.65) if rng.random() < 0.5 else 0.0 for _ in range(2))
        lane = rng.uniform(2.9, 3.7)
        road = (lane + 2.2 * (parking[0] > 0), lane + 2.2 * (parking[1] > 0))
        sunny = rng.random() < 0.55
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
            setback_m=(float(rng.choice([0.0, 0.0, 2.5, 4.0])), float(rng.choice([0.0, 0.0, 2.5, 4.0]))),
            parking=(parking[0], parking[1]),
            bends=(_sine_wave(rng, 31.0), _sine_wave(rng, 67.0)),
            sun=int(rng.choice([-1, 1])) if sunny else 0,
            # Not up to the centre line: the edge of the shadow would look like it.
            shadow=float(rng.choice([rng.uniform(0.08, 0.4), rng.uniform(0.58, 0.8)])),
            gain=gain,
            haze=haze,
            haze_per_m=rng.uniform(0.0006, 0.0025) if sunny else rng.uniform(0.001, 0.006),
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

    def apply_light(self, colours: Colours, depth_m: float) -> list[list[float]]:
        """Apply light and haze at ``depth_m`` to colours (N, 3): N lists of B, G, R, not clipped to 255."""
        transmittance = math.exp(-self.haze_per_m * depth_m)
        lit = colours * (self.gain * transmittance) + self.haze * (1 - transmittance)
        return lit.tolist()  # type: ignore[no-any-return]

    def sunlight(self, side: int) -> float:
        """Return the light factor of a wall at ``side`` (-1 left, +1 right) that faces the street."""
        if self.sun == 0:
            return 0.9
        return 0.68 if side == self.sun else 1.12

    def shadow_m(self) -> tuple[float, float]:
        """Return the x range of the road in the shadow of the houses; empty if overcast."""
        kerb = self.kerb_m(self.sun or -1)
        edge = kerb - self.sun * self.shadow * sum(self.road_m)
        return min(kerb, edge), max(kerb, edge)

    def light_at(self, x: float) -> float:
        """Return the light factor of the road at ``x``."""
        begin, end = self.shadow_m()
        return 0.5 if begin < x < end else 1.0

    def pavement_light(self, side: int) -> float:
        """Return the light factor of the pavement at ``side``."""
        return 0.5 if side == self.sun and self.shadow else 1.0

    def bend_m(self, z: Length) -> Length:
        """Return how far right the centre line bends at ``z``, in metres."""
        (a, rate_a, phase_a), (b, rate_b, phase_b) = self.bends
        bend: Length = a * np.sin(rate_a * z + phase_a) + b * np.sin(rate_b * z + phase_b)
        return bend

    def slope(self, z: Length) -> Length:
        """Return the derivative of ``bend_m``."""
        (a, rate_a, phase_a), (b, rate_b, phase_b) = self.bends
        slope: Length = a * rate_a * np.cos(rate_a * z + phase_a) + b * rate_b * np.cos(rate_b * z + phase_b)
        return slope

    def kerb_m(self, side: int) -> float:
        """Return x of the kerb at ``side`` (-1 left, +1 right)."""
        return side * self.road_m[side > 0]

    def edge_m(self, side: int) -> float:
        """Return x of the outer edge of the pavement."""
        return side * (self.road_m[side > 0] + self.pavement_m[side > 0])

    def facade_m(self, side: int) -> float:
        """Return x of the house facades."""
        return self.edge_m(side) + side * self.setback_m[side > 0]


def _sine_wave(rng: np.random.Generator, length_m: float) -> tuple[float, float, float]:
    return rng.uniform(0.3, 1.0) * 60.0 / length_m, 1 / length_m, rng.uniform(0, 2 * math.pi)
