"""Textures, drawn once for a street: fronts of houses, leaves, fences, the sky, grain and noise."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.synthetic.street.appearance import Colours, Look
from rtseg.synthetic.street.canvas import Canvas, Texture
from rtseg.synthetic.street.class_ids import BUILDING, FENCE, SKY, TREE
from rtseg.system.opencv import cv2

__all__ = [
    "GRAIN_PX",
    "GRAIN_PX_PER_M",
    "clouds",
    "crown",
    "fence",
    "front",
    "grain",
    "hedge",
    "noise",
    "panorama",
]

_PX_PER_M = 24
"""Resolution of fronts, fences and hedges."""
GRAIN_PX_PER_M = 64
"""Resolution of the grain of the ground."""
GRAIN_PX = 512
"""Side of the tile of grain."""

_WALLS = np.array(
    [
        (72, 92, 150),  # red brick
        (105, 140, 170),  # yellow brick
        (70, 85, 110),  # brown brick
        (205, 215, 222),  # white render
        (150, 178, 195),  # sandstone
        (140, 145, 150),  # concrete
        (180, 200, 215),  # cream
        (95, 100, 105),  # dark stone
        (175, 170, 150),  # pale blue
    ],
    np.float64,
)


def front(rng: np.random.Generator, look: Look, side: int) -> tuple[Texture, Colours]:
    """The front of a house, and the colour of its walls as float64 (3,)."""
    storeys, bays = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    storey_px, bay_px = round(rng.uniform(2.8, 3.4) * _PX_PER_M), round(rng.uniform(2.4, 3.4) * _PX_PER_M)
    high, wide = storeys * storey_px + 10, bays * bay_px
    wall = _WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.8, 1.1) + rng.uniform(-8, 8, 3)
    image = np.empty((high, wide, 3))
    image[:] = wall
    _bricks(rng, image, float(rng.uniform(2, 9)))
    trim = wall * 0.5 + rng.uniform(40, 125)
    image[:8] = trim
    image[8:11] = wall * 0.6
    modern = rng.random() < 0.3
    bands = rng.random() < 0.4
    wide_part, high_part = (0.86, 0.62) if modern else (rng.uniform(0.32, 0.55), rng.uniform(0.45, 0.62))
    frame = np.full(3, rng.choice([60.0, 225.0, 235.0])) if not modern else trim
    for storey in range(storeys - 1):
        top = 10 + storey * storey_px
        if bands:
            image[top + storey_px - 4 : top + storey_px] = trim
        for bay in range(bays):
            w, h = bay_px * wide_part, storey_px * high_part
            x, y = bay * bay_px + (bay_px - w) / 2, top + (storey_px - h) * 0.45
            _window(rng, image, (x, y, w, h), frame, panes=not modern)
    ground = 10 + (storeys - 1) * storey_px
    if rng.random() < 0.5:
        _shop(rng, image, ground)
    else:
        _doors(rng, image, ground, bay_px, frame)
    # The lowest part of a wall is dirty and the light under it is dim.
    image[-20:] *= np.linspace(1.0, 0.8, 20)[:, None, None]
    light = look.sunlight(side)
    texture = Texture(_bytes(image), BUILDING, look, _PX_PER_M, light=light)
    return texture, wall * light


def fence(rng: np.random.Generator, look: Look) -> Texture:
    """A fence of railings or boards, solid in its class as it is in CamVid."""
    high, wide = round(rng.uniform(1.0, 1.9) * _PX_PER_M), 12 * _PX_PER_M
    boards = rng.random() < 0.5
    bar = np.array([70.0, 105.0, 140.0]) * rng.uniform(0.6, 1.3) if boards else np.full(3, rng.choice([40.0, 60, 150]))
    image = np.empty((high, wide, 3))
    # Between railings one sees the plants behind.
    image[:] = bar * 0.6 if boards else np.array([45.0, 85.0, 75.0])
    image += _speckle(rng, high, wide, 4, 14.0)
    step, thick = (5, 4) if boards else (6, 2)
    for x in range(0, wide, step):
        image[:, x : x + thick] = bar + rng.uniform(-10, 10)
    for y in (2, high - 7):
        image[y : y + 3] = bar * 0.85
    for x in range(0, wide, 2 * _PX_PER_M):
        image[:, x : x + 5] = bar * 1.15
    return Texture(_bytes(image), FENCE, look, _PX_PER_M)


def hedge(rng: np.random.Generator, look: Look) -> Texture:
    """A hedge, as a wall of leaves."""
    high, wide = round(rng.uniform(1.0, 2.2) * _PX_PER_M), 12 * _PX_PER_M
    image = np.array([40.0, 85.0, 65.0]) * rng.uniform(0.7, 1.2) + _speckle(rng, high, wide, 5, 16.0)
    image = image + _speckle(rng, high, wide, 2, 22.0)
    image *= np.linspace(1.25, 0.6, high)[:, None, None]
    return Texture(_bytes(image), TREE, look, _PX_PER_M)


def crown(rng: np.random.Generator, look: Look) -> Texture:
    """The crown of a tree, to be stamped. A bare one covers the sky between its twigs, as in CamVid."""
    size = 192
    grid = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(grid, grid)
    tall = rng.uniform(0.75, 1.0)
    cloud = _speckle(rng, size, size, 24, 0.2)[..., 0] + _speckle(rng, size, size, 9, 0.1)[..., 0]
    fine = _speckle(rng, size, size, 3, 0.08)[..., 0]
    inside = 0.82 - np.sqrt((x / tall) ** 2 + (y * (1 + 0.25 * y)) ** 2) + cloud + fine
    mask = np.where(inside > 0, 255, 0).astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), np.uint8)
    if look.season == "bare":
        image = _twigs(rng, look, size)
    else:
        leaf = np.array([42.0, 92.0, 72.0]) if look.season == "green" else np.array([50.0, 120.0, 165.0])
        leaf = leaf * rng.uniform(0.75, 1.2) + rng.uniform(-12, 12, 3)
        light = 1.0 + 0.45 * cloud / 0.2 - 0.35 * y + (0.15 * look.sun) * x
        leaves = _speckle(rng, size, size, 4, 0.35)[..., :1] + _speckle(rng, size, size, 2, 0.3)[..., :1]
        image = leaf * np.clip(light[..., None] + leaves, 0.25, 2.2)
    return Texture(_bytes(image), TREE, look, size / 6.0, mask=mask)


def panorama(rng: np.random.Generator, look: Look) -> Canvas:
    """Sky and skyline, wider than the image by what the camera turns: uint8 (rows, width, 4).

    The horizon is 8 rows above its lower edge.
    """
    width = look.size[1]
    wide = width + 2 * math.ceil(0.3 * look.focal)
    rows = math.ceil(look.horizon) + 16
    canvas = np.full((rows, wide, 4), SKY, np.uint8)
    canvas[..., :3] = clouds(rng, look, rows, wide)
    _skyline(rng, look, canvas)
    return canvas


def clouds(rng: np.random.Generator, look: Look, rows: int, wide: int) -> Image:
    """A sky: BGR uint8 (rows, wide, 3)."""
    down = np.linspace(0.0, 1.0, rows)[:, None, None]
    light = min(1.0, float(look.gain.mean()) + 0.25)
    pale = np.array([246.0, 242.0, 236.0]) * light
    if look.sun:
        blue = np.array([225.0, 165.0, 105.0]) * rng.uniform(0.8, 1.08) * light
        amount = rng.uniform(-0.3, 0.5)
    else:
        blue = np.full(3, rng.uniform(165, 235)) * light
        amount = rng.uniform(0.0, 0.6)
    base = blue + (pale - blue) * down**1.3
    unit = look.size[1] / 960
    puffs = sum(
        _speckle(rng, rows, wide, max(cell * unit, 2), weight, flat=2.2)[..., 0]
        for cell, weight in ((150, 0.45), (60, 0.25), (24, 0.12), (9, 0.05))
    )
    cover = np.clip((puffs + amount) * 1.4, 0, 1)[..., None]
    shade = np.clip(1.0 - 0.25 * np.clip(puffs - 0.3, 0, 1), 0, 1)[..., None]
    return _bytes(base + (pale * shade - base) * cover)


def grain(rng: np.random.Generator) -> NDArray[np.float32]:
    """Grain of the ground, 8 m by 8 m, seamless, mean 0, deviation about 1: float32 (512, 512)."""
    size = GRAIN_PX
    tile = np.zeros((size, size), np.float32)
    for cell, weight in ((1, 0.65), (2, 0.5), (6, 0.33), (40, 0.4), (110, 0.33)):
        cells = max(size // cell, 4)
        # Wrapped before it is enlarged, so that the tile has no seam.
        pad = np.pad(rng.standard_normal((cells, cells), np.float32), 2, mode="wrap")
        scale = size / cells
        whole = cv2.resize(pad, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        edge = round(2 * scale)
        tile += weight * whole[edge : edge + size, edge : edge + size]
    return tile


def _bytes(image: Colours) -> Image:
    return np.clip(image, 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, rows: int, columns: int, deviation: float) -> Image:
    """Gaussian noise around 128: uint8 (rows, columns, 3)."""
    # Bytes through the inverse of the distribution: several times as fast as normal numbers.
    quantiles = [NormalDist(128.5, deviation).inv_cdf((place + 0.5) / 256) for place in range(256)]
    flat = np.frombuffer(rng.bytes(rows * columns * 3), np.uint8)
    return np.clip(quantiles, 0, 255).astype(np.uint8)[flat].reshape(rows, columns, 3)


def _speckle(
    rng: np.random.Generator, rows: int, wide: int, cell: float, strength: float, flat: float = 1.0
) -> NDArray[np.float64]:
    """Smooth noise of ``cell`` pixels, ``flat`` times as wide as high: float64 (rows, wide, 1), mean 0."""
    shape = (max(round(rows / cell), 2), max(round(wide / cell / flat), 2))
    small = rng.normal(0, strength, shape).astype(np.float32)
    return cv2.resize(small, (wide, rows), interpolation=cv2.INTER_CUBIC).astype(np.float64)[..., None]


def _bricks(rng: np.random.Generator, image: Colours, strength: float) -> None:
    high, wide = image.shape[:2]
    image += _speckle(rng, high, wide, 2, strength, flat=1.5) + _speckle(rng, high, wide, 40, strength)
    if strength > 4:
        image[::3] *= 0.93


def _box(image: Colours, x: float, y: float, w: float, h: float, colour: Colours | float) -> None:
    image[max(round(y), 0) : max(round(y + h), 0), max(round(x), 0) : max(round(x + w), 0)] = colour


def _window(
    rng: np.random.Generator,
    image: Colours,
    box: tuple[float, float, float, float],
    frame: Colours,
    *,
    panes: bool,
) -> None:
    x, y, w, h = box
    _box(image, x - 3, y - 3, w + 6, h + 8, frame * 0.85)
    _box(image, x - 2, y - 2, w + 4, h + 4, frame)
    glass = np.array([1.08, 1.0, 0.92]) * (rng.uniform(35, 75) if rng.random() < 0.8 else rng.uniform(120, 190))
    _box(image, x, y, w, h, glass)
    _box(image, x, y, w, h * rng.uniform(0.2, 0.6), glass * 1.35 + 8)
    if rng.random() < 0.3:  # a curtain
        _box(image, x, y, w * 0.25, h, np.full(3, rng.uniform(110, 200)))
    if panes:
        _box(image, x + w / 2 - 1, y, 2, h, frame)
        _box(image, x, y + h / 2 - 1, w, 2, frame)
    else:
        for part in (0.33, 0.66):
            _box(image, x + w * part - 1, y, 2, h, frame * 0.7)


def _shop(rng: np.random.Generator, image: Colours, top: int) -> None:
    high, wide = image.shape[:2]
    tint = rng.uniform(20, 180) + rng.normal(0, 35, 3).clip(-70, 70)
    tint = tint.clip(8, 230)
    sign = 0.22 * (high - top)
    image[top:] = tint * 0.5 + 20
    _box(image, 2, top + 2, wide - 4, sign, tint)
    x = wide * rng.uniform(0.15, 0.3)
    letter = 245.0 if tint.mean() < 130 else 30.0
    while x < wide * 0.75:
        w = rng.uniform(3, 7)
        _box(image, x, top + 2 + sign * 0.25, w, sign * 0.5, letter)
        x += w + 2
    x = 5.0
    while x < wide - 12:
        w = min(rng.uniform(30, 70), wide - 6 - x)
        glass = np.array([1.05, 1.0, 0.95]) * rng.uniform(30, 110)
        _box(image, x, top + sign + 6, w, high - top - sign - 16, glass)
        for _ in range(4):  # what lies in the window, and what is mirrored in it
            _box(
                image,
                x + rng.uniform(0, max(w - 12, 1)),
                top + sign + 8 + rng.uniform(0, 25),
                rng.uniform(4, 12),
                rng.uniform(6, 24),
                rng.uniform(30, 210, 3),
            )
        x += w + 4


def _doors(rng: np.random.Generator, image: Colours, top: int, bay_px: int, frame: Colours) -> None:
    high, wide = image.shape[:2]
    h = high - top
    door = int(rng.integers(wide // bay_px))
    for bay in range(wide // bay_px):
        x = bay * bay_px
        if bay == door:
            _box(image, x + bay_px * 0.28, top + h * 0.22, bay_px * 0.44, h, frame)
            _box(image, x + bay_px * 0.33, top + h * 0.27, bay_px * 0.34, h, rng.uniform(20, 130, 3))
        else:
            _window(rng, image, (x + bay_px * 0.2, top + h * 0.25, bay_px * 0.6, h * 0.48), frame, panes=True)


def _twigs(rng: np.random.Generator, look: Look, size: int) -> Colours:
    twig = np.array([66.0, 74.0, 84.0]) * rng.uniform(0.6, 1.2)
    # Between the twigs one sees finer twigs before the sky, which has its own light already.
    behind = 0.62 * twig + 0.38 * np.array([215.0, 212.0, 208.0]) * min(1.0, float(look.gain.mean()) + 0.2) / look.gain
    image = np.clip(behind + _speckle(rng, size, size, 3, 28.0), 0, 255).astype(np.uint8).repeat(1, axis=2)
    for width, count, reach in ((1, 500, 18), (2, 110, 34), (3, 30, 60)):
        start = rng.uniform(0, size, (count, 2))
        away = start - (size / 2, size * 1.05)
        angle = np.arctan2(away[:, 1], away[:, 0]) + rng.normal(0, 0.55, count)
        end = start + (reach * rng.uniform(0.5, 1.2, count))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        for a, b in zip(start.astype(int).tolist(), end.astype(int).tolist(), strict=True):
            cv2.line(image, a, b, (twig * rng.uniform(0.7, 1.3)).tolist(), width)
    return image.astype(np.float64)


def _skyline(rng: np.random.Generator, look: Look, canvas: Canvas) -> None:
    rows, wide = canvas.shape[:2]
    unit = look.focal / 260.0  # pixels of a metre at that depth
    base = rows - 8
    clear = math.exp(-look.haze_per_m * 260.0)
    x = 0.0
    while x < wide:
        w = rng.uniform(6, 26) * unit
        tree = rng.random() < 0.6
        h = rng.uniform(4, 11) * unit * (0.8 if tree else 1.0)
        tint = np.array([60.0, 85.0, 75.0]) if tree else _WALLS[rng.integers(len(_WALLS))] * 0.7
        colour = np.minimum(tint * look.gain * clear + look.haze * (1 - clear), 255)
        if tree:
            ink = (*colour.tolist(), TREE)
            for _ in range(5):
                middle = (round(x + rng.uniform(0, w)), round(base - h * rng.uniform(0.2, 0.6)))
                cv2.ellipse(canvas, middle, (max(round(w * 0.3), 1), max(round(h * 0.45), 1)), 0, 0, 360, ink, -1)
            cv2.rectangle(canvas, (round(x), round(base - h * 0.3)), (round(x + w), rows), ink, -1)
        else:
            cv2.rectangle(canvas, (round(x), round(base - h)), (round(x + w), rows), (*colour.tolist(), BUILDING), -1)
        x += w * rng.uniform(0.6, 1.0)
