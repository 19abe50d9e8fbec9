"""Synthetic interferograms: fringes over a polished surface, with defects and exact masks.

A Fizeau interferometer compares a surface with a reference flat. The intensity is I = A + B cos(phi). The phase phi
counts half wavelengths of height: tilt, power, astigmatism, coma and spherical aberration (the Seidel terms, Malacara,
"Optical Shop Testing", chapter 1) and residual polishing errors. The laser beam is brighter in the middle and adds
speckle and parasitic rings. A defect changes the phase (bump) or hides the fringes (scratch, dig, dust).

All lengths are shares of the image side, so a smaller ``size`` shows the same surface in less detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels
from rtseg.system.opencv import cv2

__all__ = [
    "BUMP_WAVES",
    "CLASSES",
    "DEFAULT_SIDE",
    "PALETTE",
    "SIDE_LIMITS",
    "Exposure",
    "draw_interferogram",
    "expose_surface",
]

CLASSES = ("Outside", "Fringes", "Scratch", "Dig", "Dust", "Bump")
"""Outside the surface; the intact surface; a groove; a pit; a particle; a smooth hill or hollow."""
PALETTE = ((40, 44, 52), (86, 156, 214), (240, 80, 60), (250, 190, 40), (120, 200, 80), (190, 110, 230))
BUMP_WAVES = 0.1
"""A pixel belongs to a bump from this deviation on, in fringes."""
_OUTSIDE, _FRINGES, _SCRATCH, _DIG, _DUST, _BUMP = range(6)
DEFAULT_SIDE = 3072
"""Default width and height of an image, in pixels."""
SIDE_LIMITS = (128, 8192)
"""Smallest and largest width and height, in pixels."""
_NOISE_DOWNSCALE = 8
"""Smooth noise is generated at this fraction of the resolution and then upsampled."""
_Field = NDArray[np.float32]
_Area = tuple[slice, slice]


def draw_interferogram(size: tuple[int, int], seed: tuple[int, ...]) -> tuple[NDArray[np.uint8], Labels]:
    """Draw the surface of ``seed``: grey values, uint8 (H, W), and class IDs, uint8 (H, W)."""
    scene = _Scene.from_seed(size, seed)
    return scene.expose(), scene.labels


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """Noise-free camera images of one surface while its distance from the reference flat changes.

    The distance shifts the phase of all fringes equally: I = A + B cos(phi + p), which is
    A + B cos(phi) cos(p) - B sin(phi) sin(p) (phase shifting: Malacara, "Optical Shop Testing", chapter 14). The mean
    over a full period is A.
    """

    mean: _Field
    """A, in grey values, float32 (H, W)."""
    cosine: _Field
    """B cos(phi), in grey values, float32 (H, W)."""
    sine: _Field
    """B sin(phi), in grey values, float32 (H, W)."""
    labels: Labels
    """Class IDs, uint8 (H, W), independent of the distance."""

    def at_phase(self, phase: float) -> _Field:
        """Return grey values, float32 (H, W), with the phase shifted by ``phase`` radians."""
        image = cv2.addWeighted(self.cosine, np.cos(phase), self.sine, -np.sin(phase), 0)
        return np.asarray(cv2.add(image, self.mean, dst=image), dtype=np.float32)


def expose_surface(size: tuple[int, int], seed: tuple[int, ...]) -> Exposure:
    """Return the surface of ``seed`` for phase shifting. It is the surface of ``draw_interferogram``."""
    scene = _Scene.from_seed(size, seed)
    return Exposure(*scene.expose_parts(), scene.labels)


class _Scene:
    """A surface in the interferometer, and the defects added so far.

    Lengths are in pixels; ``side`` is the shorter side of the image. Positions on the surface are (x, y) with the
    centre of the image at (0, 0) and the ends of the shorter side at -1 and 1.
    """

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.rng = rng
        self.size = size
        self.side = min(size)
        self.x = _axis(size[1], self.side)[None, :]
        self.y = _axis(size[0], self.side)[:, None]
        self.radius_squared: _Field = self.x**2 + self.y**2
        self.radius = float(rng.uniform(0.84, 0.97)) if rng.random() < 0.8 else 2.0
        self.hole_radius = float(rng.uniform(0.1, 0.22)) if self.radius < 2 and rng.random() < 0.12 else 0.0
        self.waves = self._surface_figure()
        self.light = self._illumination()
        self.contrast = self._smooth_noise(3, float(rng.uniform(0.01, 0.06)))
        self.contrast += np.float32(rng.uniform(0.6, 0.85))
        self.labels: Labels = np.full(size, _FRINGES, np.uint8)

    @classmethod
    def from_seed(cls, size: tuple[int, int], seed: tuple[int, ...]) -> _Scene:
        """Create the surface of ``seed`` with all its defects."""
        scene = cls(size, np.random.default_rng(seed))
        scene.add_bumps()
        scene.add_instrument_rings()
        scene.add_digs()
        scene.add_scratches()
        scene.add_dust()
        return scene

    def add_bumps(self) -> None:
        """Add smooth hills and hollows, which bend the fringes: (1 - r^2)^2 over an ellipse."""
        for _ in range(self.rng.integers(1, 5)):
            major, minor = self.side * self.rng.uniform(0.02, 0.08) * np.array([1, self.rng.uniform(0.5, 1)])
            height = self.rng.choice((-1, 1)) * self.rng.uniform(0.25, 1.1)
            area, x, y = self._region_around(self._random_position(), major)
            angle = self.rng.uniform(0, np.pi)
            u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            profile = height * np.maximum(0, 1 - (u / major) ** 2 - (v / minor) ** 2) ** 2
            self.waves[area] += profile.astype(np.float32)
            self.labels[area][np.abs(profile) >= BUMP_WAVES] = _BUMP

    def add_instrument_rings(self) -> None:
        """Add faint rings from out-of-focus dust on the optics. They are no surface defect and have no label."""
        for _ in range(self.rng.integers(2, 8)):
            radius = self.side * self.rng.uniform(0.02, 0.06)
            area, x, y = self._region_around(self._random_position(), radius)
            self._add_rings(area, (x**2 + y**2) / radius**2, self.rng.uniform(0.02, 0.06), self.rng.uniform(3, 7))

    def add_digs(self) -> None:
        """Add pits: no fringes inside, and a bright rim that scatters light."""
        for _ in range(self.rng.integers(2, 12)):
            position, radius = self._random_position(), self.side * self.rng.uniform(0.002, 0.009)
            area, _, _ = self._region_around(position, 2.5 * radius + 3)
            mask = self._irregular_spot(area, position, radius, roughness=0.12)
            blurred = _blur(mask, 0.1 * radius)
            rim = np.maximum(0, _blur(mask, 0.35 * radius) - blurred)
            self.contrast[area] *= 1 - self.rng.uniform(0.7, 0.95) * blurred
            self.light[area] *= 1 - self.rng.uniform(0.35, 0.75) * blurred + self.rng.uniform(0.5, 1.2) * rim
            self.labels[area][mask > 0] = _DIG

    def add_scratches(self) -> None:
        """Add grooves: long, thin, slightly curved, sometimes interrupted."""
        for _ in range(self.rng.integers(1, 7)):
            length, angle = self.rng.uniform(0.1, 1.1), self.rng.uniform(0, 2 * np.pi)
            steps = np.linspace(-0.5, 0.5, 48)
            bend = self.rng.normal(0, 0.12) * (steps**2 - 0.08) + self.rng.normal(0, 0.05) * steps**3
            points = np.array(self._random_position()) + length * _rotate(steps, bend, angle)
            width = self.side * self.rng.uniform(0.0006, 0.0028)
            visible = np.ones(len(steps) - 1, bool)
            if self.rng.random() < 0.4:
                visible[self.rng.integers(0, len(visible), 6)] = False
            area, mask = self._polyline(points, width, visible)
            blurred = _blur(mask, 0.3 * width)
            self.contrast[area] *= 1 - self.rng.uniform(0.5, 0.9) * blurred
            self.light[area] *= 1 + self.rng.choice((-0.7, -0.5, 0.45)) * self.rng.uniform(0.6, 1) * blurred
            self.labels[area][mask > 0] = _SCRATCH

    def add_dust(self) -> None:
        """Add particles with diffraction rings, and curled fibres."""
        for _ in range(self.rng.integers(4, 22)):
            if self.rng.random() < 0.25:
                steps = np.linspace(0, 1, 40)
                heading = self.rng.uniform(0, 2 * np.pi) + np.cumsum(self.rng.normal(0, 0.22, 40))
                length = self.rng.uniform(0.03, 0.1) * steps[1]
                curl = np.cumsum(length * np.stack((np.cos(heading), np.sin(heading)), axis=1), axis=0)
                points = np.array(self._random_position()) + curl
                width = self.side * self.rng.uniform(0.0008, 0.0016)
                area, mask = self._polyline(points, width, np.ones(39, bool))
                blurred = _blur(mask, 0.35 * width)
            else:
                position, radius = self._random_position(), self.side * self.rng.uniform(0.0012, 0.005)
                area, x, y = self._region_around(position, 6 * radius + 3)
                self._add_rings(area, (x**2 + y**2) / (6 * radius) ** 2, self.rng.uniform(0.1, 0.25), 5)
                mask = self._irregular_spot(area, position, radius, roughness=0.25)
                blurred = _blur(mask, 0.15 * radius)
            self.light[area] *= 1 - self.rng.uniform(0.65, 0.95) * blurred
            self.labels[area][mask > 0] = _DUST

    def expose(self) -> NDArray[np.uint8]:
        """Return the camera image. ``labels`` are complete afterwards."""
        cosine, _ = cv2.polarToCart(self.contrast, self.waves * np.float32(2 * np.pi))  # contrast * cos(2 pi waves)
        image: _Field = np.asarray(cosine, dtype=np.float32)
        image += 1
        image *= self.light
        image *= self._speckle()
        image *= self._surface_edge()
        image += self.rng.uniform(2, 9) * (1 + 0.3 * self.x)
        image += self.rng.standard_normal(self.size, np.float32) * np.float32(self.rng.uniform(0.8, 2.5))
        return np.clip(image, 0, 255).astype(np.uint8)

    def expose_parts(self) -> tuple[_Field, _Field, _Field]:
        """Return mean, cosine and sine part, see ``Exposure``. ``labels`` are complete afterwards."""
        light = self.light * self._speckle()
        light *= self._surface_edge()
        cosine, sine = cv2.polarToCart(light * self.contrast, self.waves * np.float32(2 * np.pi))
        mean = light + (self.rng.uniform(2, 9) * (1 + 0.3 * self.x)).astype(np.float32)
        return mean, np.asarray(cosine, dtype=np.float32), np.asarray(sine, dtype=np.float32)

    def _surface_edge(self) -> _Field:
        """Return the brightness factor at the edge of the surface, 0 to 1. Label the outside."""
        distance = np.sqrt(self.radius_squared)
        # From 1 to 0 within two pixels at the edge. A bevel, one hundredth wide, is darker.
        edge = np.clip((self.radius - distance) * (self.side / 4) + 0.5, 0, 1)
        if self.hole_radius:
            edge *= np.clip((distance - self.hole_radius) * (self.side / 4) + 0.5, 0, 1)
        self.labels[(distance > self.radius) | (distance < self.hole_radius)] = _OUTSIDE
        return np.asarray(edge * (0.55 + 0.45 * np.clip((self.radius - distance) * 100, 0, 1)), dtype=np.float32)

    def _surface_figure(self) -> _Field:
        """Return the height of the surface without defects, in fringes."""
        rng, x, y = self.rng, self.x, self.y
        rings = rng.random() < 0.3
        direction = rng.uniform(0, 2 * np.pi)
        tilt = rng.uniform(0, 4) if rings else rng.uniform(4, 24)
        power = rng.choice((-1, 1)) * (rng.uniform(4, 11) if rings else rng.uniform(0, 5))
        astigmatism, (coma_x, coma_y) = rng.normal(0, 1.0), rng.normal(0, 0.8, 2)
        columns = tilt * np.cos(direction) * x + (power + astigmatism) * x**2 + rng.uniform(0, 1)
        rows = tilt * np.sin(direction) * y + (power - astigmatism) * y**2
        seidel = self.radius_squared * np.float32(rng.normal(0, 0.8)) + (coma_x * x).astype(np.float32)
        seidel += (coma_y * y).astype(np.float32)
        seidel *= self.radius_squared
        seidel += columns.astype(np.float32)
        seidel += rows.astype(np.float32)
        seidel += self._smooth_noise(float(rng.uniform(3, 9)), float(rng.uniform(0.03, 0.2)))
        figure: _Field = seidel
        return figure

    def _illumination(self) -> _Field:
        """Return the grey level of the beam: a slightly uneven Gaussian, slightly off centre."""
        width, level = self.rng.uniform(0.75, 1.6), self.rng.uniform(75, 115)
        x, y = self.rng.normal(0, 0.15, 2)
        columns = level * np.exp(-((self.x - x) ** 2) / (2 * width**2))
        rows = np.exp(-((self.y - y) ** 2) / (2 * width**2))
        light: _Field = (columns * rows).astype(np.float32)
        light *= 1 + self._smooth_noise(5, 0.04)
        return light

    def _speckle(self) -> _Field:
        """Return speckle: factors around 1, with grains of a size set by the lens."""
        grain = self.rng.uniform(0.7, 1.5) * self.side / DEFAULT_SIDE
        noise = self.rng.standard_normal(self.size, np.float32)
        if grain > 0.3:
            noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), grain), dtype=np.float32)
        strength = self.rng.uniform(0.04, 0.09) * min(1.0, 1.5 * self.side / DEFAULT_SIDE)
        noise *= np.float32(strength / float(cv2.meanStdDev(noise)[1][0, 0]))
        noise += 1
        return noise

    def _smooth_noise(self, detail: float, strength: float) -> _Field:
        """Return smooth noise: mean 0, standard deviation ``strength``, about ``detail`` hills per side."""
        coarse_size = (-(-self.size[0] // _NOISE_DOWNSCALE), -(-self.size[1] // _NOISE_DOWNSCALE))
        rough = self.rng.standard_normal(coarse_size, np.float32)
        noise = cv2.GaussianBlur(
            rough, (0, 0), self.side / _NOISE_DOWNSCALE / detail / 2.5, borderType=cv2.BORDER_REFLECT
        )
        noise = (noise - np.mean(noise)) * (strength / max(float(np.std(noise)), 1e-6))
        return np.asarray(cv2.resize(noise, self.size[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.float32)

    def _random_position(self) -> tuple[float, float]:
        """Return a position on the surface, away from its edge."""
        while True:
            x, y = self.rng.uniform(-0.95, 0.95, 2)
            if self.hole_radius < np.hypot(x, y) < 0.95 * self.radius:
                return float(x), float(y)

    def _to_pixels(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert positions (n, 2) to (x, y) in pixels from the top left."""
        centre = (np.array(self.size[::-1]) - 1) / 2
        pixels: NDArray[np.float64] = positions * (self.side / 2) + centre
        return pixels

    def _region_around(self, position: tuple[float, float], radius: float) -> tuple[_Area, _Field, _Field]:
        """Return the pixels within ``radius`` of ``position``, and their x and y distance from it."""
        x, y = self._to_pixels(np.array([position]))[0]
        area = self._clip_area(x - radius, y - radius, x + radius, y + radius)
        right = np.arange(area[1].start, area[1].stop, dtype=np.float32)[None, :] - np.float32(x)
        down = np.arange(area[0].start, area[0].stop, dtype=np.float32)[:, None] - np.float32(y)
        return area, right, down

    def _clip_area(self, left: float, top: float, right: float, bottom: float) -> _Area:
        height, width = self.size
        rows = slice(max(0, min(height - 1, int(top))), min(height, max(1, int(bottom) + 2)))
        columns = slice(max(0, min(width - 1, int(left))), min(width, max(1, int(right) + 2)))
        return rows, columns

    def _add_rings(self, area: _Area, radius_squared: _Field, strength: float, rings: float) -> None:
        """Add rings that get narrower and fainter outwards. ``radius_squared`` is 1 where they end."""
        waves = np.cos(2 * np.pi * rings * radius_squared) * np.maximum(0, 1 - radius_squared) ** 2
        self.light[area] *= (1 + strength * waves).astype(np.float32)

    def _irregular_spot(self, area: _Area, position: tuple[float, float], radius: float, *, roughness: float) -> _Field:
        """Return the mask of an irregular spot around ``position``: 1 inside, 0 elsewhere in ``area``."""
        angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        radii = np.full(36, radius)
        for k in (1, 2, 3, 5):
            radii *= 1 + self.rng.normal(0, roughness / k) * np.cos(k * angles + self.rng.uniform(0, 7))
        radii = np.maximum(0.3 * radius, radii)
        squeezed = self.rng.uniform(0.6, 1) * radii * np.sin(angles)
        outline = _rotate(radii * np.cos(angles), squeezed, self.rng.uniform(0, np.pi))
        outline += self._to_pixels(np.array([position]))
        mask = np.zeros(self.labels[area].shape, np.float32)
        corner = (area[1].start, area[0].start)
        cv2.fillPoly(mask, [np.round(outline - corner).astype(np.int32)], 1.0)
        return mask

    def _polyline(
        self, positions: NDArray[np.float64], width: float, visible: NDArray[np.bool_]
    ) -> tuple[_Area, _Field]:
        """Return the area around a polyline and its mask, 1 on the line. Only ``visible`` segments are drawn."""
        pixels = self._to_pixels(positions)
        margin = 3 * width + 3
        area = self._clip_area(*(pixels.min(axis=0) - margin), *(pixels.max(axis=0) + margin))
        pixels = np.round(pixels - (area[1].start, area[0].start)).astype(np.int32)
        mask = np.zeros(self.labels[area].shape, np.float32)
        segments = [pixels[i : i + 2] for i in np.flatnonzero(visible)]
        cv2.polylines(mask, segments, isClosed=False, color=1.0, thickness=max(1, round(width)))
        return area, mask


def _axis(length: int, side: int) -> _Field:
    return ((np.arange(length, dtype=np.float32) - (length - 1) / 2) / (side / 2)).astype(np.float32)


def _rotate(x: NDArray[np.float64], y: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotate points by ``angle`` radians and return them as (n, 2)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack((x * cos - y * sin, x * sin + y * cos), axis=1)


def _blur(mask: _Field, sigma: float) -> _Field:
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.5, sigma)), dtype=np.float32)
