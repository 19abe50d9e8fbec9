"""A street and its images: the ground, then everything on it from far to near, then the lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image, Labels
from rtseg.synthetic.street import textures as _textures
from rtseg.synthetic.street.appearance import Colours, Look
from rtseg.synthetic.street.canvas import NEAR_M, Camera, Canvas, Pen, Points
from rtseg.synthetic.street.class_ids import PAVEMENT, ROAD, TREE
from rtseg.synthetic.street.moving_objects import Car
from rtseg.synthetic.street.scene import KERB_M, Scene
from rtseg.system.opencv import cv2

__all__ = ["Street"]

_LEAST = 64
_GRAIN_PX = _textures.GRAIN_PX
_DASH_M, _GAP_M = 2.0, 4.0


class Street:
    """A street as seen by a camera behind a windscreen, driving on for ever.

    An image depends on size, seed and time alone: times can be asked for in any order,
    by any number of streets and threads.

    Raises:
        ValueError: a side of ``size`` is less than 64 pixels.
    """

    def __init__(self, size: tuple[int, int] = (540, 960), *, seed: int = 0) -> None:
        if min(size) < _LEAST:
            raise ValueError(f"size must be at least {_LEAST} x {_LEAST} pixels, got {size[0]} x {size[1]}")
        self.size = (int(size[0]), int(size[1]))
        self.seed = seed
        self._flat = False  # paint each class in its own colour, with no lens: for tests of exactness
        self._look = Look.of(seed, self.size)
        self._scene = Scene(self._look, seed)
        rng = np.random.default_rng((seed, 0x9A0))
        self._panorama = _textures.panorama(rng, self._look)
        self._strips = _strips(self._look)
        self._grain = _Grain(rng, self._look)
        rows, columns = self.size
        noise = _textures.noise(rng, rows + 64, columns + 64, self._look.noise)
        # In two parts, as bytes have no sign and cv2.addWeighted is several times as slow as add and subtract.
        self._brighter = cv2.subtract(noise, np.full_like(noise, 128))
        self._darker = cv2.subtract(np.full_like(noise, 128), noise)

    def render(self, time_s: float) -> tuple[Image, Labels]:
        """The street at ``time_s``.

        Args:
            time_s: seconds since the camera set out.

        Returns:
            BGR image, uint8 (H, W, 3), and class id of every pixel, uint8 (H, W), as in ``rtseg.camvid_classes``.
        """
        camera = Camera(self._look, time_s)
        canvas = np.empty((*self.size, 4), np.uint8)
        pen = Pen(canvas, camera, flat=self._flat)
        things = self._scene.visible(camera.z, time_s)
        self._draw_sky(pen)
        self._draw_ground(pen)
        if not self._flat:
            self._grain.add(canvas, camera)
        self._draw_markings(pen)
        dark = self._look.road * (0.42 if self._look.sun else 0.55)
        for thing in things:
            if isinstance(thing, Car) and thing.z - camera.z < 70:
                thing.shadow(pen, dark)
        for thing in things:
            thing.draw(pen)
        pen.flush()
        labels = np.asarray(cv2.extractChannel(canvas, 3), np.uint8)
        image = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_BGRA2BGR), np.uint8)
        return image if self._flat else self._through_lens(image, time_s), labels

    def _through_lens(self, image: Image, time_s: float) -> Image:
        soft = cv2.GaussianBlur(image, (3, 3), 0)
        # Another part of the noise for each moment; the constants only have to be odd and large.
        moment = round(time_s * 1000)
        row, column = (moment * 40503 >> 3) % 64, (moment * 60493 >> 5) % 64
        rows, columns = self.size
        here = (slice(row, row + rows), slice(column, column + columns))
        cv2.add(soft, self._brighter[here], dst=soft)
        return np.asarray(cv2.subtract(soft, self._darker[here], dst=soft), np.uint8)

    def _draw_sky(self, pen: Pen) -> None:
        rows, columns = self.size
        camera, panorama = pen.camera, self._panorama
        turn = round(
            (panorama.shape[1] - columns) / 2 + camera.heading * self._look.focal - (camera.centre - columns / 2)
        )
        turn = min(max(turn, 0), panorama.shape[1] - columns)
        horizon = min(max(math.ceil(camera.horizon), 0), rows)
        skip = len(panorama) - 8 - horizon
        begin = max(-skip, 0)
        pen.canvas[begin:horizon] = panorama[skip + begin : skip + horizon, turn : turn + columns]
        if begin:
            pen.canvas[:begin] = pen.canvas[begin]
        if self._flat:
            for class_id in np.unique(pen.canvas[:horizon, :, 3]).tolist():
                pen.canvas[:horizon][pen.canvas[:horizon, :, 3] == class_id] = pen.ink((0, 0, 0), class_id)

    def _draw_ground(self, pen: Pen) -> None:
        look, camera = self._look, pen.camera
        horizon = max(math.ceil(camera.horizon), 0)
        ground = PAVEMENT if look.yard else TREE
        tone = look.tone(look.ground[None], 60.0)[0]
        rows, columns = self.size
        cv2.rectangle(pen.canvas, (0, horizon), (columns, rows), pen.ink(tone, ground), cv2.FILLED)
        depths = np.array([NEAR_M, 1.8, 3, 5, 8, 12, 17, 23, 30, 38, 48, 60, 75, 95, 120, 160, 220, 320])
        strips = self._strips
        edges = np.array([end for strip in strips for end in (strip.left, strip.right)])
        seen = _project_lines(camera, edges, camera.z + depths)
        # From far to near, each part in the haze of its depth.
        for begin, end in ((13, 17), (9, 13), (0, 9)):
            middle = float(depths[(begin + end) // 2])
            tones = look.tone(np.array([strip.colour for strip in strips]), middle)
            for place, strip in enumerate(strips):
                if begin == 13 and strip.fine:
                    continue
                left, right = seen[2 * place, begin : end + 1], seen[2 * place + 1, begin : end + 1]
                pen.polygons(np.concatenate([left, right[::-1]])[None], tones[place], strip.class_id)

    def _draw_markings(self, pen: Pen) -> None:
        look, camera = self._look, pen.camera
        for z, stretch in self._scene.marks(camera.z):
            for mark in stretch.marks:
                tint = mark.colour * look.light_at(float(mark.points[:, 0].mean()))
                pen.solid(mark.points, (len(mark.points),), tint[None], ROAD, 0.0, z)
        step = _DASH_M + _GAP_M
        first = math.floor(camera.z / step) * step
        paint = np.full((1, 3), 205.0 * (0.4 + 0.6 * look.light_at(0.0)))
        for near, far in ((0, 4), (4, 10), (10, 18)):
            starts = first + step * np.arange(float(near), float(far))
            dashes = _dashes(camera, 0.0, 0.11, starts, starts + _DASH_M)
            if len(dashes):
                pen.polygons(dashes, look.tone(paint, near * step + 10)[0], ROAD)
        joints = math.floor(camera.z / 0.9) * 0.9 + 0.9 * np.arange(1.0, 26.0)
        for side in (-1, 1):
            middle = (look.kerb_m(side) + look.edge_m(side)) / 2
            half = abs(look.edge_m(side) - look.kerb_m(side)) / 2 - 0.2
            lines = _dashes(camera, middle, half, joints, joints + 0.035, KERB_M)
            pen.polygons(lines, look.tone(look.pavement[None] * (0.84 * look.pavement_light(side)), 10.0)[0], PAVEMENT)


@dataclass(frozen=True, slots=True, eq=False)
class _Strip:
    """A strip of ground along the road, between two lines of constant x and y."""

    left: tuple[float, float]
    right: tuple[float, float]
    colour: Colours
    class_id: int
    fine: bool = False
    """Too narrow to be seen from afar."""


def _strips(look: Look) -> list[_Strip]:
    """What the ground consists of; later strips lie on earlier ones."""
    strips: list[_Strip] = []
    ground = PAVEMENT if look.yard else TREE
    for side in (-1, 1):
        dim = look.pavement_light(side)
        kerb, edge = look.kerb_m(side), look.edge_m(side)
        paving = look.pavement * dim
        strips += [
            _Strip((edge, KERB_M), (side * 60.0, KERB_M), look.ground * dim, ground),
            _Strip((kerb, KERB_M), (edge, KERB_M), paving, PAVEMENT),
            _Strip((kerb, KERB_M), (kerb + side * 0.16, KERB_M), paving * 1.15, PAVEMENT, fine=True),
            _Strip((kerb, 0.0), (kerb, KERB_M), paving * 0.6, PAVEMENT, fine=True),
        ]
    left, right = look.kerb_m(-1), look.kerb_m(1)
    strips.append(_Strip((left, 0.0), (right, 0.0), look.road, ROAD))
    for track in (-2.5, -0.85, 0.85, 2.5):  # where the wheels of all cars run
        strips.append(_Strip((track - 0.3, 0.0), (track + 0.3, 0.0), look.road * 0.95, ROAD, fine=True))
    if look.sun:
        begin, end = look.shade_m()
        strips.append(_Strip((begin, 0.0), (end, 0.0), look.road * look.light_at((begin + end) / 2), ROAD))
    for side in (-1, 1):
        dim = look.pavement_light(side)
        kerb = look.kerb_m(side)
        strips.append(_Strip((kerb, 0.0), (kerb - side * 0.35, 0.0), look.road * dim * 0.85, ROAD, fine=True))
        if not look.parking[side > 0]:
            paint = np.array([60.0, 175.0, 205.0]) * dim
            strips.append(_Strip((kerb - side * 0.4, 0.0), (kerb - side * 0.5, 0.0), paint, ROAD, fine=True))
    return strips


def _project_lines(camera: Camera, edges: NDArray[np.float64], z: NDArray[np.float64]) -> Points:
    """Lines along the road, each given by (x, y), at all ``z``: (lines, len(z), 2) in pixels."""
    aside = camera.aside(z)
    scale = camera.look.focal / np.maximum(z - camera.z, NEAR_M)
    seen = np.empty((len(edges), len(z), 2))
    seen[..., 0] = camera.centre + scale * (edges[:, :1] + aside)
    seen[..., 1] = camera.horizon - scale * (edges[:, 1:] - camera.look.eye_m)
    return seen


def _dashes(
    camera: Camera,
    x: float,
    half: float,
    begins: NDArray[np.float64],
    ends: NDArray[np.float64],
    y: float = 0.0,
) -> Points:
    """Flat bars on the ground from ``begins`` to ``ends``: (K, 4, 2) in pixels; none behind the camera."""
    ahead = ends > camera.z + NEAR_M
    z = np.concatenate([begins[ahead], ends[ahead]])
    sides = _project_lines(camera, np.array([(x - half, y), (x + half, y)]), z)
    count = int(ahead.sum())
    return np.stack([sides[0, :count], sides[1, :count], sides[1, count:], sides[0, count:]], axis=1)


class _Grain:
    """Grain of asphalt and stone that glides by under the camera."""

    def __init__(self, rng: np.random.Generator, look: Look) -> None:
        self._look = look
        strength = float(rng.uniform(4.5, 10.0)) * float(look.gain.mean())
        grain = _textures.grain(rng)
        rows, columns = look.size
        unit = look.focal * look.eye_m
        self._bands: list[_Band] = []
        for near, far, part in ((NEAR_M, 9.0, 1.0), (9.0, 18.0, 0.55), (18.0, 40.0, 0.28)):
            top, bottom = round(unit / far), min(round(unit / near), rows)
            if bottom <= top:
                continue
            depth = unit / (np.arange(top, bottom) + 0.5)
            across = (np.arange(columns) - columns / 2)[None] * depth[:, None] / look.focal
            right = np.floor(across * _textures.GRAIN_PX_PER_M).astype(np.int64) % _GRAIN_PX
            ahead = np.floor(depth * _textures.GRAIN_PX_PER_M).astype(np.int64) % _GRAIN_PX
            level = round(3 * strength * part)
            grey = np.clip(level + grain * (strength * part), 0, 255).astype(np.uint8)
            pixels = cv2.merge([grey, grey, grey, np.zeros_like(grey)]).view(np.uint32).ravel()
            base = np.zeros((bottom - top, columns, 4), np.uint8)
            base[..., :3] = level
            # Twice and a line more: every shift of the tile is then a slice of this.
            tile = np.concatenate([pixels, pixels, pixels[:_GRAIN_PX]])
            self._bands.append(_Band(top, bottom, ahead[:, None] * _GRAIN_PX + right, tile, base))

    def add(self, canvas: Canvas, camera: Camera) -> None:
        """Add it to the ground below the horizon; the class stays, as its grain is 0."""
        horizon = round(camera.horizon)
        down = math.floor(camera.z * _textures.GRAIN_PX_PER_M) % _GRAIN_PX
        right = math.floor((camera.x + self._look.bend_m(camera.z)) * _textures.GRAIN_PX_PER_M) % _GRAIN_PX
        for band in self._bands:
            rows = canvas[max(horizon + band.top, 0) : max(horizon + band.bottom, 0)]
            if not len(rows):
                continue
            grain = band.tile[down * _GRAIN_PX + right :].take(band.places[: len(rows)])
            # The mean of the grain is taken off first: bytes have no sign.
            cv2.subtract(rows, band.level[: len(rows)], dst=rows)
            cv2.add(rows, grain.view(np.uint8).reshape(rows.shape), dst=rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Band:
    """Rows of the image with grain of one strength: it fades with depth, where it would only flicker."""

    top: int
    """First row, from the horizon."""
    bottom: int
    places: NDArray[np.int64]
    """Which pixel of the tile each pixel shows, (rows, W)."""
    tile: NDArray[np.uint32]
    """Pixels of four bytes, flat."""
    level: Canvas
    """The mean of the grain, (rows, W, 4)."""
