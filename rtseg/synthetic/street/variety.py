"""Other roads, weather and light than those of a town by day, for networks that shall see more than a town."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rtseg.synthetic.street.appearance import Appearance

__all__ = ["VARIETIES", "vary"]

VARIETIES = ("none", "roads")
_LANE_M = 3.5
_DARKEST = 0.16
"""Least light of a dark scene, as a factor on the colours."""
_EDGES = ("rail", "rail", "concrete", "wall", "")


def vary(look: Appearance, seed: int) -> Appearance:
    """Return ``look`` as a motorway, a country road or a town, perhaps dark, in haze or with long shadows.

    Args:
        look: of a town street.
        seed: of the street; the result depends only on it and ``look``.
    """
    rng = np.random.default_rng((seed, 0x0AD5))
    layout = str(rng.choice(["motorway", "country", "street"], p=[0.4, 0.25, 0.35]))
    changed = {"motorway": _motorway, "country": _country, "street": _town}[layout](rng, look)
    return _change_light(rng, changed)


def _motorway(rng: np.random.Generator, look: Appearance) -> Appearance:
    inner, outer = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    lanes = (inner, outer) if look.side > 0 else (outer, inner)
    hard_shoulder, median = rng.uniform(0.6, 3.2), rng.choice([0.8, rng.uniform(0.8, 3.6)])
    margins = (median, hard_shoulder) if look.side > 0 else (hard_shoulder, median)
    road = tuple(_LANE_M * count + margin for count, margin in zip(lanes, margins, strict=True))
    grey = rng.uniform(65, 185)  # concrete is as bright as pavements are
    return replace(
        _without_pavement(rng, look),
        layout="motorway",
        lanes=lanes,
        opposite=int(rng.integers(2, 4)) if rng.random() < 0.8 else 0,
        speed=rng.uniform(20.0, 33.0),
        eye_m=rng.uniform(1.2, 2.6),
        road_m=(road[0], road[1]),
        road=grey * np.array([1.0, 0.99, 0.98]) + rng.uniform(-4, 4, 3),
        lane_tints=tuple(rng.uniform(0.82, 1.2, sum(lanes))) if rng.random() < 0.6 else (),
        shoulder_tints=(rng.uniform(0.8, 1.7), rng.uniform(0.8, 1.7)) if rng.random() < 0.5 else (1.0, 1.0),
        yellow_edge=rng.random() < 0.4,
        crowd=0.0,
        cyclists=0.0,
        urban=float(rng.choice([0.0, 0.0, 0.1])),
    )


def _country(rng: np.random.Generator, look: Appearance) -> Appearance:
    road = rng.uniform(2.9, 4.4)
    return replace(
        _without_pavement(rng, look),
        layout="country",
        speed=rng.uniform(12.0, 24.0),
        road_m=(road, road + rng.uniform(0, 1)),
        crowd=0.08,
        cyclists=0.2,
        urban=rng.uniform(0.0, 0.25),
    )


def _without_pavement(rng: np.random.Generator, look: Appearance) -> Appearance:
    edges = tuple(str(rng.choice(_EDGES)) for _ in range(2))
    banks = tuple(rng.uniform(1.0, 6.0) if rng.random() < 0.45 else 0.0 for _ in range(2))
    earth = np.array([72.0, 105.0, 130.0]) * rng.uniform(0.7, 1.3)
    grass = np.array([45.0, 105.0, 85.0]) * rng.uniform(0.7, 1.2)
    return replace(
        look,
        pavement_m=(0.0, 0.0),
        parking=(0.0, 0.0),
        bends=tuple((amplitude * 2, rate / 3, phase) for amplitude, rate, phase in look.bends),  # type: ignore[arg-type]
        yard=False,
        ground=earth if rng.random() < 0.4 else grass,
        edges=(edges[0], edges[1]),
        banks_m=(banks[0], banks[1]),
        shadow=0.0,  # no houses stand beside the road
    )


def _town(rng: np.random.Generator, look: Appearance) -> Appearance:
    return replace(look, cyclists=rng.uniform(0.3, 0.9), postboxes=rng.uniform(0.1, 0.5))


def _change_light(rng: np.random.Generator, look: Appearance) -> Appearance:
    kind = str(rng.choice(["day", "dark", "haze", "glare"], p=[0.4, 0.25, 0.22, 0.13]))
    if look.sun and kind != "dark" and rng.random() < 0.8:
        look = replace(look, shadows=rng.uniform(0.4, 3.0))
    if kind == "dark":
        factor = max(rng.uniform(0.22, 0.55), _DARKEST / look.gain.mean())
        tint = np.array([1.0, 1.0, 1.0]) + rng.uniform(-0.12, 0.12) * np.array([1.0, 0.0, -1.0])
        return replace(look, gain=look.gain * factor * tint, haze=look.haze * factor, noise=rng.uniform(3.0, 9.0))
    if kind == "haze":
        return replace(look, haze_per_m=rng.uniform(0.007, 0.03))
    if kind == "glare":
        return replace(look, gain=look.gain * rng.uniform(1.2, 1.5), haze_per_m=rng.uniform(0.003, 0.01))
    return look
