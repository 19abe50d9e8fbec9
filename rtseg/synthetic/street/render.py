"""Render a street: sky and ground, then all objects from far to near, then lens blur and sensor noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image, Labels
from rtseg.synthetic.street import textures
from rtseg.synthetic.street.appearance import Appearance, Colours
from rtseg.synthetic.street.canvas import NEAR_M, Camera, Canvas, Painter, Points
from rtseg.synthetic.street.class_ids import PAVEMENT, ROAD, TREE
from rtseg.synthetic.street.moving_objects import Car
from rtseg.synthetic.street.scene import KERB_HEIGHT_M, Scene
from rtseg.synthetic.street.variety import VARIETIES, vary
from rtseg.system.opencv import cv2

__all__ = ["Street"]

_MIN_SIDE_PX = 64
_TILE_PX, _TILE_PX_PER_M = textures.GROUND_TILE_PX, textures.GROUND_TILE_PX_PER_M
_WHITE, _YELLOW = np.full(3, 200.0), np.array([60.0, 175.0, 205.0])
_DASH_M, _GAP_M = 2.0, 4.0
"""Lengths of the centre line's dashes and of the gaps between them."""


class Street:
    """An endless street seen by a camera behind the windscreen of a moving car.

    An image depends only on size, seed and time: times can be rendered in any order and from any thread.

    Args:
        size: (H, W) in pixels.
        seed: Selects the street.
        variety: One of ``VARIETIES``: ``roads`` draws motorways, country roads and other light too.

    Raises:
        ValueError: A side of ``size`` is less than 64 pixels, or ``variety`` is unknown.
    """

    def __init__(self, size: tuple[int, int] = (540, 960), *, seed: int = 0, variety: str = "none") -> None:
        if min(size) < _MIN_SIDE_PX:
            raise ValueError(f"size must be at least {_MIN_SIDE_PX} x {_MIN_SIDE_PX} pixels, got {size[0]} x {size[1]}")
        if variety not in VARIETIES:
            raise ValueError(f"variety must be {' or '.join(VARIETIES)}, got {variety!r}")
        self.size = (int(size[0]), int(size[1]))
        self.seed = seed
        self._class_colours = False  # paint class colours, without lens and noise, to test the labels
        self._look = Appearance.from_seed(seed, self.size)
        if variety == "roads":
            self._look = vary(self._look, seed)
        self._scene = Scene(self._look, seed)
        rng = np.random.default_rng((seed, 0x9A0))
        self._panorama = textures.panorama(rng, self._look)
        self._strips = _ground_strips(self._look)
        self._ground_texture = _GroundTexture(rng, self._look)
        rows, columns = self.size
        noise = textures.sensor_noise(rng, rows + 64, columns + 64, self._look.noise)
        # Split by sign: uint8 has no sign, and cv2.addWeighted is several times as slow as add and subtract.
        self._positive_noise = cv2.subtract(noise, np.full_like(noise, 128))
        self._negative_noise = cv2.subtract(np.full_like(noise, 128), noise)

    def render(self, time_s: float) -> tuple[Image, Labels]:
        """Render the street at ``time_s``.

        Args:
            time_s: Seconds since the camera started to move.

        Returns:
            BGR image, uint8 (H, W, 3), and class IDs, uint8 (H, W), see ``rtseg.camvid_classes``.
        """
        camera = Camera(self._look, time_s)
        canvas = np.empty((*self.size, 4), np.uint8)
        painter = Painter(canvas, camera, class_colours=self._class_colours)
        objects = self._scene.visible(camera.z, time_s)
        self._draw_sky(painter)
        self._draw_ground(painter)
        if not self._class_colours:
            self._ground_texture.add_to(canvas, camera)
        self._draw_road_marks(painter)
        self._draw_long_shadows(painter)
        shadow = self._look.road * (0.42 if self._look.sun else 0.55)
        for item in objects:
            if isinstance(item, Car) and item.z - camera.z < 70:
                item.draw_shadow(painter, shadow)
        for item in objects:
            item.draw(painter)
        painter.flush()
        labels = np.asarray(cv2.extractChannel(canvas, 3), np.uint8)
        image = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_BGRA2BGR), np.uint8)
        return image if self._class_colours else self._add_blur_and_noise(image, time_s), labels

    def _add_blur_and_noise(self, image: Image, time_s: float) -> Image:
        blurred = cv2.GaussianBlur(image, (3, 3), 0)
        # Use another part of the noise for each moment. The multipliers are arbitrary large odd numbers.
        moment = round(time_s * 1000)
        row, column = (moment * 40503 >> 3) % 64, (moment * 60493 >> 5) % 64
        rows, columns = self.size
        part = (slice(row, row + rows), slice(column, column + columns))
        cv2.add(blurred, self._positive_noise[part], dst=blurred)
        return np.asarray(cv2.subtract(blurred, self._negative_noise[part], dst=blurred), np.uint8)

    def _draw_sky(self, painter: Painter) -> None:
        rows, columns = self.size
        camera, panorama = painter.camera, self._panorama
        left = round(
            (panorama.shape[1] - columns) / 2 + camera.heading * self._look.focal - (camera.centre - columns / 2)
        )
        left = min(max(left, 0), panorama.shape[1] - columns)
        horizon = min(max(math.ceil(camera.horizon), 0), rows)
        skip = len(panorama) - 8 - horizon
        begin = max(-skip, 0)
        painter.canvas[begin:horizon] = panorama[skip + begin : skip + horizon, left : left + columns]
        if begin:
            painter.canvas[:begin] = painter.canvas[begin]
        if self._class_colours:
            sky = painter.canvas[:horizon]
            for class_id in np.unique(sky[..., 3]).tolist():
                sky[sky[..., 3] == class_id] = painter.pixel_value((0, 0, 0), class_id)

    def _draw_ground(self, painter: Painter) -> None:
        look, camera = self._look, painter.camera
        horizon = max(math.ceil(camera.horizon), 0)
        ground = PAVEMENT if look.yard else TREE
        colour = look.apply_light(look.ground[None], 60.0)[0]
        rows, columns = self.size
        cv2.rectangle(painter.canvas, (0, horizon), (columns, rows), painter.pixel_value(colour, ground), cv2.FILLED)
        depths = np.array([NEAR_M, 1.8, 3, 5, 8, 12, 17, 23, 30, 38, 48, 60, 75, 95, 120, 160, 220, 320])
        strips = self._strips
        edges = np.array([end for strip in strips for end in (strip.left, strip.right)])
        lines = _project_lines(camera, edges, camera.z + depths)
        # From far to near; each part gets the haze of its depth.
        for begin, end in ((13, 17), (9, 13), (0, 9)):
            middle = float(depths[(begin + end) // 2])
            colours = look.apply_light(np.array([strip.colour for strip in strips]), middle)
            for index, strip in enumerate(strips):
                if begin == 13 and strip.narrow:
                    continue
                left, right = lines[2 * index, begin : end + 1], lines[2 * index + 1, begin : end + 1]
                painter.fill_polygons(np.concatenate([left, right[::-1]])[None], colours[index], strip.class_id)

    def _draw_long_shadows(self, painter: Painter) -> None:
        outlines = [
            outline + np.array((0.0, z))
            for z, section in self._scene.near_sections(painter.camera.z)
            for outline in section.shadows
        ]
        if outlines:
            painter.darken_ground(outlines, 0.45)

    def _draw_road_marks(self, painter: Painter) -> None:
        look, camera = self._look, painter.camera
        for z, section in self._scene.near_sections(camera.z):
            for mark in section.marks:
                colour = mark.colour * look.light_at(float(mark.points[:, 0].mean()))
                painter.add_mesh(mark.points, (len(mark.points),), colour[None], ROAD, 0.0, z)
        paint = np.full((1, 3), 205.0 * (0.4 + 0.6 * look.light_at(0.0)))
        step = _DASH_M + _GAP_M
        first = math.floor(camera.z / step) * step
        for x in (3.5 * line for line in range(1 - look.lanes[0], look.lanes[1])):
            for near, far in ((0, 4), (4, 10), (10, 18)):
                starts = first + step * np.arange(float(near), float(far))
                dashes = _project_bars(camera, x, 0.11, starts, starts + _DASH_M)
                if len(dashes):
                    painter.fill_polygons(dashes, look.apply_light(paint, near * step + 10)[0], ROAD)
        if look.layout == "street":
            self._draw_joints(painter)

    def _draw_joints(self, painter: Painter) -> None:
        """Draw the joints between the slabs of the pavements."""
        look, camera = self._look, painter.camera
        joints = math.floor(camera.z / 0.9) * 0.9 + 0.9 * np.arange(1.0, 26.0)
        for side in (-1, 1):
            middle = (look.kerb_m(side) + look.edge_m(side)) / 2
            half = abs(look.edge_m(side) - look.kerb_m(side)) / 2 - 0.2
            lines = _project_bars(camera, middle, half, joints, joints + 0.035, KERB_HEIGHT_M)
            colour = look.pavement * (0.84 * look.pavement_light(side))
            painter.fill_polygons(lines, look.apply_light(colour[None], 10.0)[0], PAVEMENT)


@dataclass(frozen=True, slots=True, eq=False)
class _Strip:
    """A strip of ground along the road, between two lines of constant (x, y)."""

    left: tuple[float, float]
    right: tuple[float, float]
    colour: Colours
    class_id: int
    narrow: bool = False
    """Whether the strip is too narrow to be visible at a distance."""


def _ground_strips(look: Appearance) -> list[_Strip]:
    """Return the strips of the ground; later strips cover earlier ones."""
    if look.layout != "street":
        return _open_road_strips(look)
    strips: list[_Strip] = []
    ground = PAVEMENT if look.yard else TREE
    for side in (-1, 1):
        dim = look.pavement_light(side)
        kerb, edge = look.kerb_m(side), look.edge_m(side)
        paving = look.pavement * dim
        strips += [
            _Strip((edge, KERB_HEIGHT_M), (side * 60.0, KERB_HEIGHT_M), look.ground * dim, ground),
            _Strip((kerb, KERB_HEIGHT_M), (edge, KERB_HEIGHT_M), paving, PAVEMENT),
            _Strip((kerb, KERB_HEIGHT_M), (kerb + side * 0.16, KERB_HEIGHT_M), paving * 1.15, PAVEMENT, narrow=True),
            _Strip((kerb, 0.0), (kerb, KERB_HEIGHT_M), paving * 0.6, PAVEMENT, narrow=True),
        ]
    left, right = look.kerb_m(-1), look.kerb_m(1)
    strips.append(_Strip((left, 0.0), (right, 0.0), look.road, ROAD))
    for track in (-2.5, -0.85, 0.85, 2.5):  # wheel tracks
        strips.append(_Strip((track - 0.3, 0.0), (track + 0.3, 0.0), look.road * 0.95, ROAD, narrow=True))
    if look.sun:
        begin, end = look.shadow_m()
        strips.append(_Strip((begin, 0.0), (end, 0.0), look.road * look.light_at((begin + end) / 2), ROAD))
    for side in (-1, 1):
        dim = look.pavement_light(side)
        kerb = look.kerb_m(side)
        strips.append(_Strip((kerb, 0.0), (kerb - side * 0.35, 0.0), look.road * dim * 0.85, ROAD, narrow=True))
        if not look.parking[side > 0]:
            paint = _YELLOW * dim
            strips.append(_Strip((kerb - side * 0.4, 0.0), (kerb - side * 0.5, 0.0), paint, ROAD, narrow=True))
    return strips


def _open_road_strips(look: Appearance) -> list[_Strip]:
    """Return the strips of a road without kerbs and pavements."""
    strips: list[_Strip] = []
    for side in (-1, 1):
        kerb, bank = look.kerb_m(side), look.banks_m[side > 0]
        strips.append(_Strip((kerb, 0.0), (side * 60.0, 0.0), look.ground, TREE))
        other = look.opposite if side != look.side else 0
        foot = kerb + side * (1.4 + (3.5 * other + 2.0 if other else 0.0))
        if other:
            strips.append(_Strip((kerb + side * 1.2, 0.0), (foot, 0.0), look.road * 0.96, ROAD))
        if bank:
            strips.append(_Strip((foot, 0.0), (foot + side * 2.2 * bank, bank), look.ground * 0.93, TREE))
    left, right = look.kerb_m(-1), look.kerb_m(1)
    strips.append(_Strip((left, 0.0), (right, 0.0), look.road, ROAD))
    for lane, tint in enumerate(look.lane_tints, -look.lanes[0]):
        strips.append(_Strip((3.5 * lane, 0.0), (3.5 * lane + 3.5, 0.0), look.road * tint, ROAD))
    for side in (-1, 1):
        motorway = look.layout == "motorway"
        line = side * 3.5 * look.lanes[side > 0] if motorway else look.kerb_m(side) - side * 0.3
        if motorway:
            shoulder = look.road * look.shoulder_tints[side > 0]
            strips.append(_Strip((line, 0.0), (look.kerb_m(side), 0.0), shoulder, ROAD))
        paint = _YELLOW if look.yellow_edge and side != look.side else _WHITE
        strips.append(_Strip((line - 0.09, 0.0), (line + 0.09, 0.0), paint, ROAD, narrow=True))
    return strips


def _project_lines(camera: Camera, edges: NDArray[np.float64], z: NDArray[np.float64]) -> Points:
    """Project lines along the road, each given by (x, y), at all ``z``: (lines, len(z), 2) in pixels."""
    offset = camera.road_offset(z)
    scale = camera.look.focal / np.maximum(z - camera.z, NEAR_M)
    lines = np.empty((len(edges), len(z), 2))
    lines[..., 0] = camera.centre + scale * (edges[:, :1] + offset)
    lines[..., 1] = camera.horizon - scale * (edges[:, 1:] - camera.look.eye_m)
    return lines


def _project_bars(
    camera: Camera,
    x: float,
    half: float,
    begins: NDArray[np.float64],
    ends: NDArray[np.float64],
    y: float = 0.0,
) -> Points:
    """Project bars on the ground from ``begins`` to ``ends``: (K, 4, 2) in pixels, without those behind the camera."""
    ahead = ends > camera.z + NEAR_M
    z = np.concatenate([begins[ahead], ends[ahead]])
    sides = _project_lines(camera, np.array([(x - half, y), (x + half, y)]), z)
    count = int(ahead.sum())
    return np.stack([sides[0, :count], sides[1, :count], sides[1, count:], sides[0, count:]], axis=1)


class _GroundTexture:
    """The texture of asphalt and stone, which moves with the ground."""

    def __init__(self, rng: np.random.Generator, look: Appearance) -> None:
        self._look = look
        strength = float(rng.uniform(4.5, 10.0)) * float(look.gain.mean())
        tile = textures.ground_tile(rng)
        rows, columns = look.size
        unit = look.focal * look.eye_m
        self._bands: list[_Band] = []
        for near, far, fade in ((NEAR_M, 9.0, 1.0), (9.0, 18.0, 0.55), (18.0, 40.0, 0.28)):
            top, bottom = round(unit / far), min(round(unit / near), rows)
            if bottom <= top:
                continue
            depth = unit / (np.arange(top, bottom) + 0.5)
            across = (np.arange(columns) - columns / 2)[None] * depth[:, None] / look.focal
            right = np.floor(across * _TILE_PX_PER_M).astype(np.int64) % _TILE_PX
            ahead = np.floor(depth * _TILE_PX_PER_M).astype(np.int64) % _TILE_PX
            level = round(3 * strength * fade)
            grey = np.clip(level + tile * (strength * fade), 0, 255).astype(np.uint8)
            pixels = cv2.merge([grey, grey, grey, np.zeros_like(grey)]).view(np.uint32).ravel()
            mean = np.zeros((bottom - top, columns, 4), np.uint8)
            mean[..., :3] = level
            # Two copies and a row: every shift of the tile is a slice of this.
            shiftable = np.concatenate([pixels, pixels, pixels[:_TILE_PX]])
            self._bands.append(_Band(top, bottom, ahead[:, None] * _TILE_PX + right, shiftable, mean))

    def add_to(self, canvas: Canvas, camera: Camera) -> None:
        """Add the texture to the ground below the horizon. It is 0 in the class channel."""
        horizon = round(camera.horizon)
        down = math.floor(camera.z * _TILE_PX_PER_M) % _TILE_PX
        right = math.floor((camera.x + self._look.bend_m(camera.z)) * _TILE_PX_PER_M) % _TILE_PX
        for band in self._bands:
            rows = canvas[max(horizon + band.top, 0) : max(horizon + band.bottom, 0)]
            if not len(rows):
                continue
            pixels = band.tile[down * _TILE_PX + right :].take(band.tile_index[: len(rows)])
            # Subtract the mean first, because uint8 has no sign.
            cv2.subtract(rows, band.mean[: len(rows)], dst=rows)
            cv2.add(rows, pixels.view(np.uint8).reshape(rows.shape), dst=rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Band:
    """Image rows with the same texture strength. The texture fades with depth, where it would only flicker."""

    top: int
    """First row, counted from the horizon."""
    bottom: int
    tile_index: NDArray[np.int64]
    """Index of the tile pixel that each pixel shows, (rows, W)."""
    tile: NDArray[np.uint32]
    """The tile as a flat array of four-byte pixels."""
    mean: Canvas
    """The mean of the texture, (rows, W, 4)."""
