"""The camera, and the pen that draws into image and labels at once.

The canvas has four channels: B, G, R and the class. So a primitive cannot mark other pixels with its class
than it paints: labels are exact by construction. Nothing is anti-aliased: that would blend classes.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rtseg.camvid_classes import PALETTE
from rtseg.frame import Image, Labels
from rtseg.synthetic.street.appearance import LEVELS_M, Colours, Length, Look
from rtseg.system.opencv import cv2

__all__ = ["NEAR_M", "Camera", "Canvas", "Pen", "Points", "Texture"]

NEAR_M = 1.0
"""What is nearer to the camera than this, in metres, is cut off; all of it lies outside the image."""

_SHIFT = 4
"""Vertices are given to OpenCV in sixteenths of a pixel, so that slow things glide."""
_REACH = 12000.0
"""The ground is cut off this many pixels away, where OpenCV's fixed-point numbers are safe."""

Points = NDArray[np.float64]
"""Positions, float64 (N, 3) as x, y, z in metres or (N, 2) as u, v in pixels."""

Canvas = NDArray[np.uint8]
"""uint8 (H, W, 4): B, G, R, class."""


class Texture:
    """An image to be put on a wall or stamped; lit, hazed and shrunk for a depth when first seen there."""

    def __init__(
        self,
        image: Image,
        class_id: int,
        look: Look,
        px_per_m: float,
        *,
        light: float = 1.0,
        mask: Labels | None = None,
    ) -> None:
        """Prepare nothing yet.

        Args:
            image: BGR, uint8 (h, w, 3), before light and haze.
            class_id: of all its pixels.
            look: the light and the haze.
            px_per_m: resolution.
            light: a factor for the light on it.
            mask: uint8 (h, w), 255 where it covers; None covers all.
        """
        height, width = image.shape[:2]
        self.metres = (height / px_per_m, width / px_per_m)
        """Natural height and width."""
        self._look = look
        self._class_id = class_id
        self._px_per_m = px_per_m
        self._light = light
        self._whole = cv2.merge([image, np.full((height, width), 255, np.uint8) if mask is None else mask])
        self._levels: dict[int, Canvas] = {}

    def at(self, depth_m: float) -> Canvas:
        """As seen from ``depth_m``: uint8 (h, w, 4), B, G, R and the class, which is 0 where nothing is."""
        place = bisect(LEVELS_M, depth_m, 1) - 1
        # Two threads may both prepare a level: they prepare the same.
        if place not in self._levels:
            self._levels[place] = self._prepared(LEVELS_M[place])
        return self._levels[place]

    def _prepared(self, depth_m: float) -> Canvas:
        look = self._look
        height, width = self._whole.shape[:2]
        shrink = min(1.0, 1.6 * look.focal / depth_m / self._px_per_m)
        size = (max(int(width * shrink), 3), max(int(height * shrink), 3))
        small = cv2.resize(self._whole, size, interpolation=cv2.INTER_AREA) if shrink < 1 else self._whole
        clear = math.exp(-look.haze_per_m * depth_m)
        table = np.zeros((1, 256, 4), np.uint8)
        seen = np.arange(256.0)[:, None] * (look.gain * self._light * clear) + look.haze * (1 - clear)
        table[0, :, :3] = np.clip(seen, 0, 255)
        table[0, 128:, 3] = self._class_id
        return np.asarray(cv2.LUT(small, table), np.uint8)


class Camera:
    """A pinhole camera on the road at one moment, looking along it."""

    def __init__(self, look: Look, time_s: float) -> None:
        width = look.size[1]
        self.look = look
        self.z = look.speed * time_s
        self.x = look.side * 1.6 + 0.06 * math.sin(0.9 * time_s) + 0.1 * math.sin(0.23 * time_s)
        unit = width / 960
        self.horizon = look.horizon + unit * (1.2 * math.sin(2.9 * time_s) + 1.6 * math.sin(0.7 * time_s))
        self.centre = width / 2 + unit * 3.0 * math.sin(0.4 * time_s)
        self.heading = look.slope(self.z)
        self.bend = look.bend_m(self.z)

    def depth(self, z: float) -> float:
        """Distance along the road, not less than ``NEAR_M``."""
        return max(z - self.z, NEAR_M)

    def aside(self, z: Length) -> Length:
        """Where the road's middle line is at ``z``, in metres to the right of the camera's axis."""
        return self.look.bend_m(z) - self.bend - self.heading * (z - self.z) - self.x

    def point(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Project one point: (u, v) in pixels."""
        scale = self.look.focal / self.depth(z)
        return self.centre + scale * (x + self.aside(z)), self.horizon - scale * (y - self.look.eye_m)


class Pen:
    """Draws on one canvas through one camera."""

    def __init__(self, canvas: Canvas, camera: Camera, *, flat: bool = False) -> None:
        self.canvas = canvas
        self.camera = camera
        self.look = camera.look
        self._list: list[Callable[[], None] | None] = []  # from far to near; None is the next of the solids
        self._solids: list[tuple[Points, Sequence[int], Colours, int, float, float]] = []
        self._flat = flat  # paint every class in its palette colour: for tests of exactness

    def ink(self, colour: Sequence[float], class_id: int) -> tuple[float, ...]:
        """The four numbers that mark a pixel."""
        if self._flat:
            return (*PALETTE[class_id][::-1], class_id)
        return (colour[0], colour[1], colour[2], class_id)

    def polygons(self, seen: Points, colour: Sequence[float], class_id: int) -> None:
        """Fill many polygons of one colour now: (K, N, 2), in pixels. Where two overlap is a hole."""
        fixed = _fixed(np.clip(seen, -_REACH, _REACH))
        cv2.fillPoly(self.canvas, list(fixed), self.ink(colour, class_id), shift=_SHIFT)

    def solid(self, points: Points, ends: Sequence[int], colours: Colours, class_id: int, x: float, z: float) -> None:
        """Put convex faces on the list: a thing at ``x``, ``z`` and in line with the road there.

        Args:
            points: vertices (N, 3) from that place, in metres; (N, 2) if it is flat and faces the camera.
            ends: face i ends before vertex ``ends[i]``. Later faces lie on earlier ones.
            colours: of each face, before light and haze: float64 (F, 3).
            class_id: of all faces.
            x: of the thing.
            z: of the thing.
        """
        self._solids.append((points, ends, colours, class_id, x, z))
        self._list.append(None)

    def wall(self, texture: Texture, x: float, z0: float, z1: float, y0: float, y1: float) -> None:
        """Put on the list: a texture on the upright plane at ``x`` from ``z0`` (its left edge) to ``z1``."""
        self._list.append(lambda: self._wall(texture, x, z0, z1, y0, y1))

    def stamp(self, texture: Texture, x: float, z: float, y0: float, height_m: float, width_m: float) -> None:
        """Put on the list: a texture that faces the camera, its middle at ``x``, its foot at ``y0``."""
        self._list.append(lambda: self._stamp(texture, x, z, y0, height_m, width_m))

    def flush(self) -> None:
        """Draw the list. All vertices are projected at once, as numpy is slow to begin."""
        if not self._list:
            return
        fixed = _fixed(self._project())
        inks = self._inks().tolist()
        solids = iter(self._solids)
        first = face = 0
        for draw in self._list:
            if draw is not None:
                draw()
                continue
            points, ends = next(solids)[:2]
            begin = first
            for end in ends:
                cv2.fillConvexPoly(self.canvas, fixed[begin : first + end], inks[face], cv2.LINE_8, _SHIFT)
                begin = first + end
                face += 1
            first += len(points)
        self._list.clear()
        self._solids.clear()

    def _project(self) -> Points:
        """All vertices of the list, in pixels: (N, 2)."""
        camera, look = self.camera, self.look
        counts = [len(solid[0]) for solid in self._solids]
        points = np.zeros((sum(counts), 3))
        begin = 0
        for solid, count in zip(self._solids, counts, strict=True):
            points[begin : begin + count, : solid[0].shape[1]] = solid[0]
            begin += count
        places = np.array([solid[4:] for solid in self._solids])
        x, z = places[:, 0], places[:, 1]
        aside = x + camera.aside(z)
        turn = look.slope(z) - camera.heading
        origin = np.repeat(np.column_stack([aside, turn, z - camera.z]), counts, axis=0)
        scale = look.focal / np.maximum(points[:, 2] + origin[:, 2], NEAR_M)
        seen = np.empty((len(points), 2))
        seen[:, 0] = camera.centre + scale * (points[:, 0] + origin[:, 0] + points[:, 2] * origin[:, 1])
        seen[:, 1] = camera.horizon - scale * (points[:, 1] - look.eye_m)
        return seen

    def _inks(self) -> Colours:
        """B, G, R, class of all faces of the list: float64 (F, 4)."""
        faces = [len(solid[1]) for solid in self._solids]
        inks = np.empty((sum(faces), 4))
        # A thing may bring colours for details that it leaves out from afar.
        colours = np.concatenate([solid[2][:count] for solid, count in zip(self._solids, faces, strict=True)])
        depths = np.array([self.camera.depth(solid[5]) for solid in self._solids])
        clear = np.repeat(np.exp(-self.look.haze_per_m * depths), faces)[:, None]
        classes = np.repeat([solid[3] for solid in self._solids], faces)
        inks[:, :3] = colours * self.look.gain * clear + self.look.haze * (1 - clear)
        inks[:, 3] = classes
        if self._flat:
            inks[:, :3] = np.array(PALETTE)[classes, ::-1]
        return inks

    def _wall(self, texture: Texture, x: float, z0: float, z1: float, y0: float, y1: float) -> None:
        camera = self.camera
        depth0, depth1 = z0 - camera.z, z1 - camera.z
        if depth1 <= NEAR_M:
            return
        aside0, aside1 = x + camera.aside(z0), x + camera.aside(z1)
        source = self._painted(texture.at(depth0))
        height, width = source.shape[:2]
        left = 0.0
        if depth0 < NEAR_M:
            part = (NEAR_M - depth0) / (depth1 - depth0)
            left, aside0, depth0 = part * width, aside0 + part * (aside1 - aside0), NEAR_M
        near, far = self.look.focal / depth0, self.look.focal / depth1
        eye = self.look.eye_m
        u0, u1 = camera.centre + near * aside0, camera.centre + far * aside1
        v0 = camera.horizon - near * (y1 - eye), camera.horizon - near * (y0 - eye)
        v1 = camera.horizon - far * (y1 - eye), camera.horizon - far * (y0 - eye)
        rows, columns = self.look.size
        begin, end = max(math.floor(min(u0, u1)), 0), min(math.ceil(max(u0, u1)) + 1, columns)
        top, bottom = max(math.floor(min(v0[0], v1[0])), 0), min(math.ceil(max(v0[1], v1[1])) + 1, rows)
        if end - begin < 1 or bottom - top < 1:
            return
        target = np.array([(u0, v0[0]), (u1, v1[0]), (u1, v1[1]), (u0, v0[1])], np.float32)
        if abs(u1 - u0) < 6:
            cv2.fillConvexPoly(self.canvas, _fixed(target), cv2.mean(source), shift=_SHIFT)
            return
        target -= (begin, top)
        # Pixel centres are whole numbers for OpenCV: the texture reaches half a pixel beyond the outer ones.
        corners = np.array(
            [
                (left - 0.5, -0.5),
                (width - 0.5, -0.5),
                (width - 0.5, height - 0.5),
                (left - 0.5, height - 0.5),
            ],
            np.float32,
        )
        cv2.warpPerspective(
            source,
            cv2.getPerspectiveTransform(target, corners),
            (end - begin, bottom - top),
            dst=self.canvas[top:bottom, begin:end],
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_TRANSPARENT,
        )

    def _stamp(self, texture: Texture, x: float, z: float, y0: float, height_m: float, width_m: float) -> None:
        u, v = self.camera.point(x, y0, z)
        depth = self.camera.depth(z)
        scale = self.look.focal / depth
        high, wide = max(round(height_m * scale), 1), max(round(width_m * scale), 1)
        begin, top = round(u - wide / 2), round(v) - high
        rows, columns = self.look.size
        u0, u1 = max(begin, 0), min(begin + wide, columns)
        v0, v1 = max(top, 0), min(top + high, rows)
        if u1 <= u0 or v1 <= v0:
            return
        source = self._painted(texture.at(depth))
        # Only the part inside the image is scaled: a near crown is far larger than what is seen of it.
        tall, broad = source.shape[:2]
        matrix = np.array(
            [
                [broad / wide, 0, (u0 - begin + 0.5) * broad / wide - 0.5],
                [0, tall / high, (v0 - top + 0.5) * tall / high - 0.5],
            ]
        )
        size = (u1 - u0, v1 - v0)
        # Nearest pixels: a blend of neighbours would blend their classes as well.
        leaf = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
        cv2.copyTo(leaf, cv2.extractChannel(leaf, 3), self.canvas[v0:v1, u0:u1])

    def _painted(self, source: Canvas) -> Canvas:
        """The texture itself, or all of it in its class colour."""
        if not self._flat:
            return source
        painted = source.copy()
        painted[..., :3] = self.ink((0, 0, 0), int(source[..., 3].max()))[:3]
        return painted


def _fixed(seen: NDArray[np.floating]) -> NDArray[np.int32]:
    """Vertices in pixels as OpenCV's fixed-point numbers."""
    return (seen * (1 << _SHIFT)).astype(np.int32)
