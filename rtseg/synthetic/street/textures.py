"""Textures drawn once per street: facades, leaves, fences, the sky, ground texture and sensor noise."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.synthetic.street.appearance import Appearance, Colours
from rtseg.synthetic.street.canvas import Canvas, Texture
from rtseg.synthetic.street.class_ids import BUILDING, FENCE, SKY, TREE
from rtseg.system.opencv import cv2

__all__ = [
    "GROUND_TILE_PX",
    "GROUND_TILE_PX_PER_M",
    "concrete",
    "facade",
    "fence",
    "ground_tile",
    "guard_rail",
    "hedge",
    "panorama",
    "sensor_noise",
    "tree_crown",
]

_PX_PER_M = 24
"""Resolution of facades, fences and hedges, in pixels per metre."""
GROUND_TILE_PX_PER_M = 64
"""Resolution of the ground texture, in pixels per metre."""
GROUND_TILE_PX = 512
"""Width and height of the ground tile."""

_WALL_COLOURS = np.array(
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


def facade(rng: np.random.Generator, look: Appearance, side: int) -> tuple[Texture, Colours]:
    """Draw the facade of a house; also return the colour of its walls, float64 (3,)."""
    storeys, bays = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    storey_px, bay_px = round(rng.uniform(2.8, 3.4) * _PX_PER_M), round(rng.uniform(2.4, 3.4) * _PX_PER_M)
    height, width = storeys * storey_px + 10, bays * bay_px
    wall = _WALL_COLOURS[rng.integers(len(_WALL_COLOURS))] * rng.uniform(0.8, 1.1) + rng.uniform(-8, 8, 3)
    image = np.empty((height, width, 3))
    image[:] = wall
    _add_brick_pattern(rng, image, float(rng.uniform(2, 9)))
    trim = wall * 0.5 + rng.uniform(40, 125)
    image[:8] = trim
    image[8:11] = wall * 0.6
    modern = rng.random() < 0.3
    has_bands = rng.random() < 0.4
    width_share, height_share = (0.86, 0.62) if modern else (rng.uniform(0.32, 0.55), rng.uniform(0.45, 0.62))
    frame = np.full(3, rng.choice([60.0, 225.0, 235.0])) if not modern else trim
    for storey in range(storeys - 1):
        top = 10 + storey * storey_px
        if has_bands:
            image[top + storey_px - 4 : top + storey_px] = trim
        for bay in range(bays):
            w, h = bay_px * width_share, storey_px * height_share
            x, y = bay * bay_px + (bay_px - w) / 2, top + (storey_px - h) * 0.45
            _draw_window(rng, image, (x, y, w, h), frame, panes=not modern)
    ground = 10 + (storeys - 1) * storey_px
    if rng.random() < 0.5:
        _draw_shop(rng, image, ground)
    else:
        _draw_doors(rng, image, ground, bay_px, frame)
    # The foot of a wall is dirty and gets less light.
    image[-20:] *= np.linspace(1.0, 0.8, 20)[:, None, None]
    light = look.sunlight(side)
    texture = Texture(_to_uint8(image), BUILDING, look, _PX_PER_M, light=light)
    return texture, wall * light


def fence(rng: np.random.Generator, look: Appearance) -> Texture:
    """Draw a fence of railings or boards. Its gaps have the class Fence too, as in CamVid."""
    height, width = round(rng.uniform(1.0, 1.9) * _PX_PER_M), 12 * _PX_PER_M
    boards = rng.random() < 0.5
    bar = np.array([70.0, 105.0, 140.0]) * rng.uniform(0.6, 1.3) if boards else np.full(3, rng.choice([40.0, 60, 150]))
    image = np.empty((height, width, 3))
    # Plants are visible between railings.
    image[:] = bar * 0.6 if boards else np.array([45.0, 85.0, 75.0])
    image += _smooth_noise(rng, height, width, 4, 14.0)
    step, bar_width = (5, 4) if boards else (6, 2)
    for x in range(0, width, step):
        image[:, x : x + bar_width] = bar + rng.uniform(-10, 10)
    for y in (2, height - 7):
        image[y : y + 3] = bar * 0.85
    for x in range(0, width, 2 * _PX_PER_M):
        image[:, x : x + 5] = bar * 1.15
    return Texture(_to_uint8(image), FENCE, look, _PX_PER_M)


def hedge(rng: np.random.Generator, look: Appearance) -> Texture:
    """Draw a hedge."""
    height, width = round(rng.uniform(1.0, 2.2) * _PX_PER_M), 12 * _PX_PER_M
    image = np.array([40.0, 85.0, 65.0]) * rng.uniform(0.7, 1.2) + _smooth_noise(rng, height, width, 5, 16.0)
    image = image + _smooth_noise(rng, height, width, 2, 22.0)
    image *= np.linspace(1.25, 0.6, height)[:, None, None]
    return Texture(_to_uint8(image), TREE, look, _PX_PER_M)


def guard_rail(rng: np.random.Generator, look: Appearance) -> Texture:
    """Draw the steel band of a guard rail."""
    height, width = round(0.38 * _PX_PER_M) + 1, 8 * _PX_PER_M
    steel = np.array([1.03, 1.0, 0.97]) * rng.uniform(95, 190)
    profile = 0.85 + 0.25 * np.cos(np.linspace(0, 4 * np.pi, height))
    image = steel * profile[:, None, None] + _smooth_noise(rng, height, width, 12, 7.0, aspect=4.0)
    image[:, :: 4 * _PX_PER_M] *= 0.75
    return Texture(_to_uint8(image), FENCE, look, _PX_PER_M)


def concrete(rng: np.random.Generator, look: Appearance, class_id: int, height_m: float) -> Texture:
    """Draw a wall of concrete, stone or bricks, of a class and a height in metres."""
    height, width = round(height_m * _PX_PER_M), 12 * _PX_PER_M
    wall = _WALL_COLOURS[rng.integers(len(_WALL_COLOURS))] if rng.random() < 0.5 else np.full(3, rng.uniform(80, 190))
    image = np.zeros((height, width, 3)) + wall
    _add_brick_pattern(rng, image, float(rng.uniform(2, 9)))
    panel = int(rng.integers(2, 6)) * _PX_PER_M
    image[:, ::panel] *= 0.6
    image[:, 1::panel] *= 0.75
    image[:3] = wall * 1.15
    image[-8:] *= np.linspace(1.0, 0.75, 8)[:, None, None]
    return Texture(_to_uint8(image), class_id, look, _PX_PER_M)


def tree_crown(rng: np.random.Generator, look: Appearance) -> Texture:
    """Draw a tree crown. A bare crown has the class Tree between its twigs too, as in CamVid."""
    size = 192
    grid = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(grid, grid)
    tall = rng.uniform(0.75, 1.0)
    cloud = _smooth_noise(rng, size, size, 24, 0.2)[..., 0] + _smooth_noise(rng, size, size, 9, 0.1)[..., 0]
    fine = _smooth_noise(rng, size, size, 3, 0.08)[..., 0]
    inside = 0.82 - np.sqrt((x / tall) ** 2 + (y * (1 + 0.25 * y)) ** 2) + cloud + fine
    mask = np.where(inside > 0, 255, 0).astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), np.uint8)
    if look.season == "bare":
        image = _draw_twigs(rng, look, size)
    else:
        leaf = np.array([42.0, 92.0, 72.0]) if look.season == "green" else np.array([50.0, 120.0, 165.0])
        leaf = leaf * rng.uniform(0.75, 1.2) + rng.uniform(-12, 12, 3)
        light = 1.0 + 0.45 * cloud / 0.2 - 0.35 * y + (0.15 * look.sun) * x
        leaves = _smooth_noise(rng, size, size, 4, 0.35)[..., :1] + _smooth_noise(rng, size, size, 2, 0.3)[..., :1]
        image = leaf * np.clip(light[..., None] + leaves, 0.25, 2.2)
    return Texture(_to_uint8(image), TREE, look, size / 6.0, mask=mask)


def panorama(rng: np.random.Generator, look: Appearance) -> Canvas:
    """Draw sky and skyline, wider than the image because the camera turns: uint8 (rows, width, 4).

    The horizon is 8 rows above the lower edge.
    """
    width = look.size[1] + 2 * math.ceil(0.3 * look.focal)
    rows = math.ceil(look.horizon) + 16
    canvas = np.full((rows, width, 4), SKY, np.uint8)
    canvas[..., :3] = _draw_sky(rng, look, rows, width)
    _draw_skyline(rng, look, canvas)
    return canvas


def _draw_sky(rng: np.random.Generator, look: Appearance, rows: int, width: int) -> Image:
    """Draw sky and clouds: BGR uint8 (rows, width, 3)."""
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
        _smooth_noise(rng, rows, width, max(cell * unit, 2), weight, aspect=2.2)[..., 0]
        for cell, weight in ((150, 0.45), (60, 0.25), (24, 0.12), (9, 0.05))
    )
    cover = np.clip((puffs + amount) * 1.4, 0, 1)[..., None]
    shade = np.clip(1.0 - 0.25 * np.clip(puffs - 0.3, 0, 1), 0, 1)[..., None]
    return _to_uint8(base + (pale * shade - base) * cover)


def ground_tile(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a seamless ground texture of 8 m x 8 m, mean 0, standard deviation about 1: float32 (512, 512)."""
    size = GROUND_TILE_PX
    tile = np.zeros((size, size), np.float32)
    for cell, weight in ((1, 0.65), (2, 0.5), (6, 0.33), (40, 0.4), (110, 0.33)):
        cells = max(size // cell, 4)
        # Wrap before upsampling, so that the tile has no seam.
        pad = np.pad(rng.standard_normal((cells, cells), np.float32), 2, mode="wrap")
        scale = size / cells
        upsampled = cv2.resize(pad, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        edge = round(2 * scale)
        tile += weight * upsampled[edge : edge + size, edge : edge + size]
    return tile


def _to_uint8(image: Colours) -> Image:
    return np.clip(image, 0, 255).astype(np.uint8)


def sensor_noise(rng: np.random.Generator, rows: int, columns: int, deviation: float) -> Image:
    """Draw Gaussian noise around 128: uint8 (rows, columns, 3)."""
    # Random bytes mapped through the inverse CDF are several times as fast as drawing normal numbers.
    quantiles = [NormalDist(128.5, deviation).inv_cdf((byte + 0.5) / 256) for byte in range(256)]
    uniform = np.frombuffer(rng.bytes(rows * columns * 3), np.uint8)
    return np.clip(quantiles, 0, 255).astype(np.uint8)[uniform].reshape(rows, columns, 3)


def _smooth_noise(
    rng: np.random.Generator, rows: int, columns: int, cell: float, strength: float, aspect: float = 1.0
) -> NDArray[np.float64]:
    """Draw smooth noise with cells of ``cell`` pixels, ``aspect`` times as wide as high: float64 (rows, columns, 1)."""
    shape = (max(round(rows / cell), 2), max(round(columns / cell / aspect), 2))
    small = rng.normal(0, strength, shape).astype(np.float32)
    return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC).astype(np.float64)[..., None]


def _add_brick_pattern(rng: np.random.Generator, image: Colours, strength: float) -> None:
    height, width = image.shape[:2]
    fine = _smooth_noise(rng, height, width, 2, strength, aspect=1.5)
    image += fine + _smooth_noise(rng, height, width, 40, strength)
    if strength > 4:
        image[::3] *= 0.93


def _fill_rectangle(image: Colours, x: float, y: float, w: float, h: float, colour: Colours | float) -> None:
    image[max(round(y), 0) : max(round(y + h), 0), max(round(x), 0) : max(round(x + w), 0)] = colour


def _draw_window(
    rng: np.random.Generator,
    image: Colours,
    box: tuple[float, float, float, float],
    frame: Colours,
    *,
    panes: bool,
) -> None:
    x, y, w, h = box
    _fill_rectangle(image, x - 3, y - 3, w + 6, h + 8, frame * 0.85)
    _fill_rectangle(image, x - 2, y - 2, w + 4, h + 4, frame)
    glass = np.array([1.08, 1.0, 0.92]) * (rng.uniform(35, 75) if rng.random() < 0.8 else rng.uniform(120, 190))
    _fill_rectangle(image, x, y, w, h, glass)
    _fill_rectangle(image, x, y, w, h * rng.uniform(0.2, 0.6), glass * 1.35 + 8)
    if rng.random() < 0.3:  # a curtain
        _fill_rectangle(image, x, y, w * 0.25, h, np.full(3, rng.uniform(110, 200)))
    if panes:
        _fill_rectangle(image, x + w / 2 - 1, y, 2, h, frame)
        _fill_rectangle(image, x, y + h / 2 - 1, w, 2, frame)
    else:
        for part in (0.33, 0.66):
            _fill_rectangle(image, x + w * part - 1, y, 2, h, frame * 0.7)


def _draw_shop(rng: np.random.Generator, image: Colours, top: int) -> None:
    height, width = image.shape[:2]
    tint = rng.uniform(20, 180) + rng.normal(0, 35, 3).clip(-70, 70)
    tint = tint.clip(8, 230)
    sign = 0.22 * (height - top)
    image[top:] = tint * 0.5 + 20
    _fill_rectangle(image, 2, top + 2, width - 4, sign, tint)
    x = width * rng.uniform(0.15, 0.3)
    letter = 245.0 if tint.mean() < 130 else 30.0
    while x < width * 0.75:
        w = rng.uniform(3, 7)
        _fill_rectangle(image, x, top + 2 + sign * 0.25, w, sign * 0.5, letter)
        x += w + 2
    x = 5.0
    while x < width - 12:
        w = min(rng.uniform(30, 70), width - 6 - x)
        glass = np.array([1.05, 1.0, 0.95]) * rng.uniform(30, 110)
        _fill_rectangle(image, x, top + sign + 6, w, height - top - sign - 16, glass)
        for _ in range(4):  # goods in the window, and reflections
            _fill_rectangle(
                image,
                x + rng.uniform(0, max(w - 12, 1)),
                top + sign + 8 + rng.uniform(0, 25),
                rng.uniform(4, 12),
                rng.uniform(6, 24),
                rng.uniform(30, 210, 3),
            )
        x += w + 4


def _draw_doors(rng: np.random.Generator, image: Colours, top: int, bay_px: int, frame: Colours) -> None:
    height, width = image.shape[:2]
    h = height - top
    door = int(rng.integers(width // bay_px))
    for bay in range(width // bay_px):
        x = bay * bay_px
        if bay == door:
            _fill_rectangle(image, x + bay_px * 0.28, top + h * 0.22, bay_px * 0.44, h, frame)
            _fill_rectangle(image, x + bay_px * 0.33, top + h * 0.27, bay_px * 0.34, h, rng.uniform(20, 130, 3))
        else:
            _draw_window(rng, image, (x + bay_px * 0.2, top + h * 0.25, bay_px * 0.6, h * 0.48), frame, panes=True)


def _draw_twigs(rng: np.random.Generator, look: Appearance, size: int) -> Colours:
    twig = np.array([66.0, 74.0, 84.0]) * rng.uniform(0.6, 1.2)
    # Finer twigs in front of the sky. Divided by the gain, because the sky is not lit a second time.
    behind = 0.62 * twig + 0.38 * np.array([215.0, 212.0, 208.0]) * min(1.0, float(look.gain.mean()) + 0.2) / look.gain
    image = np.clip(behind + _smooth_noise(rng, size, size, 3, 28.0), 0, 255).astype(np.uint8).repeat(1, axis=2)
    for thickness, count, length in ((1, 500, 18), (2, 110, 34), (3, 30, 60)):
        start = rng.uniform(0, size, (count, 2))
        away = start - (size / 2, size * 1.05)
        angle = np.arctan2(away[:, 1], away[:, 0]) + rng.normal(0, 0.55, count)
        end = start + (length * rng.uniform(0.5, 1.2, count))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        for a, b in zip(start.astype(int).tolist(), end.astype(int).tolist(), strict=True):
            cv2.line(image, a, b, (twig * rng.uniform(0.7, 1.3)).tolist(), thickness)
    return image.astype(np.float64)


def _draw_skyline(rng: np.random.Generator, look: Appearance, canvas: Canvas) -> None:
    rows, width = canvas.shape[:2]
    unit = look.focal / 260.0  # pixels per metre at a depth of 260 m
    base = rows - 8
    transmittance = math.exp(-look.haze_per_m * 260.0)
    x = 0.0
    while x < width:
        w = rng.uniform(6, 26) * unit
        tree = rng.random() < 0.6
        h = rng.uniform(4, 11) * unit * (0.8 if tree else 1.0)
        tint = np.array([60.0, 85.0, 75.0]) if tree else _WALL_COLOURS[rng.integers(len(_WALL_COLOURS))] * 0.7
        colour = np.minimum(tint * look.gain * transmittance + look.haze * (1 - transmittance), 255)
        if tree:
            pixel_value = (*colour.tolist(), TREE)
            for _ in range(5):
                middle = (round(x + rng.uniform(0, w)), round(base - h * rng.uniform(0.2, 0.6)))
                axes = (max(round(w * 0.3), 1), max(round(h * 0.45), 1))
                cv2.ellipse(canvas, middle, axes, 0, 0, 360, pixel_value, -1)
            cv2.rectangle(canvas, (round(x), round(base - h * 0.3)), (round(x + w), rows), pixel_value, -1)
        else:
            cv2.rectangle(canvas, (round(x), round(base - h)), (round(x + w), rows), (*colour.tolist(), BUILDING), -1)
        x += w * rng.uniform(0.6, 1.0)
