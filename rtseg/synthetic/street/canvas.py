"""The camera, and the painter that draws image and labels together.

The canvas has four channels: B, G, R and the class ID. Every drawing call writes colour and class to the same
pixels, so the labels are exact. Nothing is anti-aliased, because that would mix classes.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rtseg.camvid_classes import PALETTE
from rtseg.frame import Image, Labels
from rtseg.synthetic.street.appearance import TEXTURE_DEPTHS_M, Appearance, Colours, Length
from rtseg.system.opencv import cv2

__all__ = ["NEAR_M", "Camera", "Canvas", "Painter", "Points", "Texture"]

NEAR_M = 1.0
"""Depth of the near plane in metres. Anything closer is clipped; all of it lies outside the image."""

_SHIFT = 4
"""Fractional bits of OpenCV's fixed-point vertices: sixteenths of a pixel, so that slow objects move smoothly."""
_MAX_COORDINATE_PX = 12000.0
"""Ground vertices are clipped to this, so that OpenCV's fixed-point numbers do not overflow."""

Points = NDArray[np.float64]
"""Vertices, float64: (N, 3) as x, y, z in metres, or (N, 2) as u, v in pixels."""

Canvas = NDArray[np.uint8]
"""uint8 (H, W, 4): B, G, R, class ID."""


class Texture:
    """An image for a wall or a billboard. Light, haze and scale are applied once per depth level, on first use."""

    def __init__(
        self,
        image: Image,
        class_id: int,
        look: Appearance,
        px_per_m: float,
        *,
        light: float = 1.0,
        mask: Labels | None = None,
    ) -> None:
        """Store the image.

        Args:
            image: BGR, uint8 (h, w, 3), before light and haze.
            class_id: Class of all its pixels.
            look: Light and haze of the street.
            px_per_m: Resolution in pixels per metre.
            light: Extra brightness factor.
            mask: uint8 (h, w), 255 where the texture is opaque; None means everywhere.
        """
        height, width = image.shape[:2]
        self.size_m = (height / px_per_m, width / px_per_m)
        """Natural height and width in metres."""
        self._look = look
        self._class_id = class_id
        self._px_per_m = px_per_m
        self._light = light
        self._full_size = cv2.merge([image, np.full((height, width), 255, np.uint8) if mask is None else mask])
        self._levels: dict[int, Canvas] = {}

    def at_depth(self, depth_m: float) -> Canvas:
        """Return the texture as seen from ``depth_m``: B, G, R, class ID, uint8 (h, w, 4). Transparent pixels are 0."""
        level = bisect(TEXTURE_DEPTHS_M, depth_m, 1) - 1
        # Two threads may both prepare a level; both get the same result.
        if level not in self._levels:
            self._levels[level] = self._prepare(TEXTURE_DEPTHS_M[level])
        return self._levels[level]

    def _prepare(self, depth_m: float) -> Canvas:
        look = self._look
        height, width = self._full_size.shape[:2]
        scale = min(1.0, 1.6 * look.focal / depth_m / self._px_per_m)
        size = (max(int(width * scale), 3), max(int(height * scale), 3))
        scaled = cv2.resize(self._full_size, size, interpolation=cv2.INTER_AREA) if scale < 1 else self._full_size
        transmittance = math.exp(-look.haze_per_m * depth_m)
        table = np.zeros((1, 256, 4), np.uint8)
        colours = np.arange(256.0)[:, None] * (look.gain * self._light * transmittance) + look.haze * (
            1 - transmittance
        )
        table[0, :, :3] = np.clip(colours, 0, 255)
        table[0, 128:, 3] = self._class_id
        return np.asarray(cv2.LUT(scaled, table), np.uint8)


class Camera:
    """A pinhole camera at one moment, looking along the road."""

    def __init__(self, look: Appearance, time_s: float) -> None:
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
        """Return the distance along the road, at least ``NEAR_M``."""
        return max(z - self.z, NEAR_M)

    def road_offset(self, z: Length) -> Length:
        """Return how far right of the camera's axis the road's centre line is at ``z``, in metres."""
        return self.look.bend_m(z) - self.bend - self.heading * (z - self.z) - self.x

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Project one point to (u, v) in pixels."""
        scale = self.look.focal / self.depth(z)
        return self.centre + scale * (x + self.road_offset(z)), self.horizon - scale * (y - self.look.eye_m)


class Painter:
    """Draws on one canvas through one camera.

    The ``add_`` methods queue a shape; ``flush`` draws the queue in order. Add shapes from far to near.
    """

    def __init__(self, canvas: Canvas, camera: Camera, *, class_colours: bool = False) -> None:
        self.canvas = canvas
        self.camera = camera
        self.look = camera.look
        self._queue: list[Callable[[], None] | None] = []  # None stands for the next entry of _meshes
        self._meshes: list[tuple[Points, Sequence[int], Colours, int, float, float]] = []
        self._class_colours = class_colours  # paint every class in its palette colour, to test the labels

    def pixel_value(self, colour: Sequence[float], class_id: int) -> tuple[float, ...]:
        """Return the four channels of a pixel."""
        if self._class_colours:
            return (*PALETTE[class_id][::-1], class_id)
        return (colour[0], colour[1], colour[2], class_id)

    def fill_polygons(self, vertices: Points, colour: Sequence[float], class_id: int) -> None:
        """Fill polygons of one colour at once, (K, N, 2) in pixels. Areas covered twice stay unpainted."""
        fixed = _to_fixed_point(np.clip(vertices, -_MAX_COORDINATE_PX, _MAX_COORDINATE_PX))
        cv2.fillPoly(self.canvas, list(fixed), self.pixel_value(colour, class_id), shift=_SHIFT)

    def darken_ground(self, outlines: Sequence[Points], factor: float) -> None:
        """Darken all ground that is drawn already within outlines (N, 2) of x, z; the classes stay.

        Args:
            outlines: in metres.
            factor: on the colours, in [0, 1].
        """
        camera, rows = self.camera, len(self.canvas)
        top = min(max(math.ceil(camera.horizon), 0), rows)
        mask = np.zeros((rows, self.canvas.shape[1]), np.uint8)
        for outline in outlines:
            x, z = outline[:, 0], outline[:, 1]
            if z.max() < camera.z + NEAR_M:
                continue
            scale = self.look.focal / np.maximum(z - camera.z, NEAR_M)
            u, v = camera.centre + scale * (x + camera.road_offset(z)), camera.horizon + scale * self.look.eye_m
            vertices = np.clip(np.stack((u, v), 1), -_MAX_COORDINATE_PX, _MAX_COORDINATE_PX)
            cv2.fillPoly(mask, [_to_fixed_point(vertices)], 255, shift=_SHIFT)
        ground = self.canvas[top:, :, :3]
        if not self._class_colours and ground.size:
            np.copyto(ground, (ground * factor).astype(np.uint8), where=mask[top:, :, None] > 0)

    def add_mesh(
        self, points: Points, ends: Sequence[int], colours: Colours, class_id: int, x: float, z: float
    ) -> None:
        """Queue convex faces of an object at ``x``, ``z`` that points along the road there.

        Args:
            points: Vertices (N, 3) relative to the object, in metres; (N, 2) if it is flat and faces the camera.
            ends: Face i ends before vertex ``ends[i]``. Later faces cover earlier ones.
            colours: One colour per face, before light and haze: float64 (F, 3).
            class_id: Class of all faces.
            x: Position of the object.
            z: Position of the object.
        """
        self._meshes.append((points, ends, colours, class_id, x, z))
        self._queue.append(None)

    def add_wall(self, texture: Texture, x: float, z0: float, z1: float, y0: float, y1: float) -> None:
        """Queue a texture on the vertical plane at ``x``, from ``z0`` (its left edge) to ``z1``."""
        self._queue.append(lambda: self._draw_wall(texture, x, z0, z1, y0, y1))

    def add_billboard(self, texture: Texture, x: float, z: float, y0: float, height_m: float, width_m: float) -> None:
        """Queue a texture that faces the camera, centred on ``x``, with its lower edge at ``y0``."""
        self._queue.append(lambda: self._draw_billboard(texture, x, z, y0, height_m, width_m))

    def flush(self) -> None:
        """Draw the queue. All vertices are projected in one numpy call, because each call has a fixed cost."""
        if not self._queue:
            return
        fixed = _to_fixed_point(self._project_meshes())
        pixel_values = self._mesh_pixel_values().tolist()
        meshes = iter(self._meshes)
        first = face = 0
        for draw in self._queue:
            if draw is not None:
                draw()
                continue
            points, ends = next(meshes)[:2]
            begin = first
            for end in ends:
                cv2.fillConvexPoly(self.canvas, fixed[begin : first + end], pixel_values[face], cv2.LINE_8, _SHIFT)
                begin = first + end
                face += 1
            first += len(points)
        self._queue.clear()
        self._meshes.clear()

    def _project_meshes(self) -> Points:
        """Return all vertices of the queue in pixels: (N, 2)."""
        camera, look = self.camera, self.look
        counts = [len(mesh[0]) for mesh in self._meshes]
        points = np.zeros((sum(counts), 3))
        begin = 0
        for mesh, count in zip(self._meshes, counts, strict=True):
            points[begin : begin + count, : mesh[0].shape[1]] = mesh[0]
            begin += count
        positions = np.array([mesh[4:] for mesh in self._meshes])
        x, z = positions[:, 0], positions[:, 1]
        offset = x + camera.road_offset(z)
        turn = look.slope(z) - camera.heading
        origin = np.repeat(np.column_stack([offset, turn, z - camera.z]), counts, axis=0)
        scale = look.focal / np.maximum(points[:, 2] + origin[:, 2], NEAR_M)
        projected = np.empty((len(points), 2))
        projected[:, 0] = camera.centre + scale * (points[:, 0] + origin[:, 0] + points[:, 2] * origin[:, 1])
        projected[:, 1] = camera.horizon - scale * (points[:, 1] - look.eye_m)
        return projected

    def _mesh_pixel_values(self) -> Colours:
        """Return B, G, R, class ID of all faces of the queue: float64 (F, 4)."""
        faces = [len(mesh[1]) for mesh in self._meshes]
        values = np.empty((sum(faces), 4))
        # An object may pass colours for details that it omits at a distance.
        colours = np.concatenate([mesh[2][:count] for mesh, count in zip(self._meshes, faces, strict=True)])
        depths = np.array([self.camera.depth(mesh[5]) for mesh in self._meshes])
        transmittance = np.repeat(np.exp(-self.look.haze_per_m * depths), faces)[:, None]
        classes = np.repeat([mesh[3] for mesh in self._meshes], faces)
        values[:, :3] = colours * self.look.gain * transmittance + self.look.haze * (1 - transmittance)
        values[:, 3] = classes
        if self._class_colours:
            values[:, :3] = np.array(PALETTE)[classes, ::-1]
        return values

    def _draw_wall(self, texture: Texture, x: float, z0: float, z1: float, y0: float, y1: float) -> None:
        camera = self.camera
        depth0, depth1 = z0 - camera.z, z1 - camera.z
        if depth1 <= NEAR_M:
            return
        offset0, offset1 = x + camera.road_offset(z0), x + camera.road_offset(z1)
        source = self._recolour(texture.at_depth(depth0))
        height, width = source.shape[:2]
        left = 0.0
        if depth0 < NEAR_M:
            clipped = (NEAR_M - depth0) / (depth1 - depth0)
            left, offset0, depth0 = clipped * width, offset0 + clipped * (offset1 - offset0), NEAR_M
        near, far = self.look.focal / depth0, self.look.focal / depth1
        eye = self.look.eye_m
        u0, u1 = camera.centre + near * offset0, camera.centre + far * offset1
        v0 = camera.horizon - near * (y1 - eye), camera.horizon - near * (y0 - eye)
        v1 = camera.horizon - far * (y1 - eye), camera.horizon - far * (y0 - eye)
        rows, columns = self.look.size
        begin, end = max(math.floor(min(u0, u1)), 0), min(math.ceil(max(u0, u1)) + 1, columns)
        top, bottom = max(math.floor(min(v0[0], v1[0])), 0), min(math.ceil(max(v0[1], v1[1])) + 1, rows)
        if end - begin < 1 or bottom - top < 1:
            return
        target = np.array([(u0, v0[0]), (u1, v1[0]), (u1, v1[1]), (u0, v0[1])], np.float32)
        if abs(u1 - u0) < 6:
            cv2.fillConvexPoly(self.canvas, _to_fixed_point(target), cv2.mean(source), shift=_SHIFT)
            return
        target -= (begin, top)
        # OpenCV puts pixel centres at integers, so the texture extends half a pixel beyond the outer centres.
        right = width - 0.5
        corners = np.array(
            [(left - 0.5, -0.5), (right, -0.5), (right, height - 0.5), (left - 0.5, height - 0.5)], np.float32
        )
        cv2.warpPerspective(
            source,
            cv2.getPerspectiveTransform(target, corners),
            (end - begin, bottom - top),
            dst=self.canvas[top:bottom, begin:end],
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_TRANSPARENT,
        )

    def _draw_billboard(self, texture: Texture, x: float, z: float, y0: float, height_m: float, width_m: float) -> None:
        u, v = self.camera.project(x, y0, z)
        depth = self.camera.depth(z)
        scale = self.look.focal / depth
        target_height, target_width = max(round(height_m * scale), 1), max(round(width_m * scale), 1)
        left, top = round(u - target_width / 2), round(v) - target_height
        rows, columns = self.look.size
        u0, u1 = max(left, 0), min(left + target_width, columns)
        v0, v1 = max(top, 0), min(top + target_height, rows)
        if u1 <= u0 or v1 <= v0:
            return
        source = self._recolour(texture.at_depth(depth))
        # Scale only the part inside the image: a near tree crown is far larger than its visible part.
        height, width = source.shape[:2]
        matrix = np.array(
            [
                [width / target_width, 0, (u0 - left + 0.5) * width / target_width - 0.5],
                [0, height / target_height, (v0 - top + 0.5) * height / target_height - 0.5],
            ]
        )
        # Nearest neighbour: interpolation would mix classes.
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        scaled = cv2.warpAffine(source, matrix, (u1 - u0, v1 - v0), flags=flags)
        cv2.copyTo(scaled, cv2.extractChannel(scaled, 3), self.canvas[v0:v1, u0:u1])

    def _recolour(self, source: Canvas) -> Canvas:
        """Return the texture, in its class colour where class colours are asked for."""
        if not self._class_colours:
            return source
        recoloured = source.copy()
        recoloured[..., :3] = self.pixel_value((0, 0, 0), int(source[..., 3].max()))[:3]
        return recoloured


def _to_fixed_point(vertices: NDArray[np.floating]) -> NDArray[np.int32]:
    """Convert vertices in pixels to OpenCV's fixed-point numbers."""
    return (vertices * (1 << _SHIFT)).astype(np.int32)
