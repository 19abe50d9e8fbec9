"""Interferograms that rtseg draws: fringes over a polished surface, with defects and exact masks.

A Fizeau interferometer compares a surface with a flat. The intensity is I = A + B cos(phi), where phi counts half
wavelengths of height: tilt, power, astigmatism, coma and spherical error (the Seidel terms, Malacara, "Optical Shop
Testing", chapter 1) and what polishing left. A laser lights it, brighter in the middle, with speckle and parasitic
rings. A defect changes the phase (bump, dig) or hides the fringes (scratch, dig, dust).

All lengths are shares of the side, so that a smaller ``size`` shows the same surface in less detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Labels
from rtseg.system.opencv import cv2

__all__ = ["BUMP_WAVES", "CLASSES", "PALETTE", "SIDE", "SIDES", "Exposure", "draw_interferogram", "expose_surface"]

CLASSES = ("Outside", "Fringes", "Scratch", "Dig", "Dust", "Bump")
"""Outside of the surface; the surface; a groove; a pit; dirt on it; a smooth hill or hollow."""
PALETTE = ((40, 44, 52), (86, 156, 214), (240, 80, 60), (250, 190, 40), (120, 200, 80), (190, 110, 230))
BUMP_WAVES = 0.1
"""From this deviation on, in fringes, a pixel belongs to a bump."""
_OUTSIDE, _FRINGES, _SCRATCH, _DIG, _DUST, _BUMP = range(6)
SIDE = 3072
"""Width and height of an image unless another size is asked for, in pixels."""
SIDES = (128, 8192)
"""Least and greatest width and height, in pixels."""
_COARSE = 8
"""Smooth fields are made with so many times fewer pixels a side and then enlarged."""
_Field = NDArray[np.float32]
_Area = tuple[slice, slice]


def draw_interferogram(size: tuple[int, int], seed: tuple[int, ...]) -> tuple[NDArray[np.uint8], Labels]:
    """Grey values, uint8 (H, W), and class ids, uint8 (H, W), of the surface that ``seed`` stands for."""
    scene = _Scene.of(size, seed)
    return scene.expose(), scene.labels


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """What the camera sees of one surface while its distance from the flat changes, noise left out.

    With the distance the phase of all fringes changes alike: I = A + B cos(phi + p), which is
    A + B cos(phi) cos(p) - B sin(phi) sin(p) (phase shifting: Malacara, "Optical Shop Testing", chapter 14). The mean
    over a whole period is A.
    """

    steady: _Field
    """A, in grey values, float32 (H, W)."""
    cosine: _Field
    """B cos(phi), in grey values, float32 (H, W)."""
    sine: _Field
    """B sin(phi), in grey values, float32 (H, W)."""
    labels: Labels
    """Class ids, uint8 (H, W); the same at every distance."""

    def at(self, phase: float) -> _Field:
        """Grey values, float32 (H, W), where the phase has grown by ``phase`` radians."""
        image = cv2.addWeighted(self.cosine, np.cos(phase), self.sine, -np.sin(phase), 0)
        return np.asarray(cv2.add(image, self.steady, dst=image), dtype=np.float32)


def expose_surface(size: tuple[int, int], seed: tuple[int, ...]) -> Exposure:
    """The surface that ``seed`` stands for, see ``draw_interferogram``, while its distance changes."""
    scene = _Scene.of(size, seed)
    return Exposure(*scene.expose_parts(), scene.labels)


class _Scene:
    """A surface in the interferometer, with what has been drawn on it so far.

    Lengths are in pixels; ``side`` is the shorter side of the image. Places on the surface are (x, y) with the middle
    of the image at 0, 0 and the ends of the shorter side at -1 and 1.
    """

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.rng = rng
        self.size = size
        self.side = min(size)
        self.across = _axis(size[1], self.side)[None, :]
        self.down = _axis(size[0], self.side)[:, None]
        self.squared: _Field = self.across**2 + self.down**2
        self.radius = float(rng.uniform(0.84, 0.97)) if rng.random() < 0.8 else 2.0
        self.hole = float(rng.uniform(0.1, 0.22)) if self.radius < 2 and rng.random() < 0.12 else 0.0
        self.waves = self._figure()
        self.light = self._illumination()
        self.contrast: _Field = self._noise(3, float(rng.uniform(0.01, 0.06))) + np.float32(rng.uniform(0.6, 0.85))
        self.labels: Labels = np.full(size, _FRINGES, np.uint8)

    @classmethod
    def of(cls, size: tuple[int, int], seed: tuple[int, ...]) -> _Scene:
        """The surface that ``seed`` stands for, with all its defects."""
        scene = cls(size, np.random.default_rng(seed))
        scene.add_bumps()
        scene.add_instrument_rings()
        scene.add_digs()
        scene.add_scratches()
        scene.add_dust()
        return scene

    def add_bumps(self) -> None:
        """Smooth hills and hollows: the profile (1 - r^2)^2 over an ellipse bends the fringes."""
        for _ in range(self.rng.integers(1, 5)):
            long, short = self.side * self.rng.uniform(0.02, 0.08) * np.array([1, self.rng.uniform(0.5, 1)])
            height = self.rng.choice((-1, 1)) * self.rng.uniform(0.25, 1.1)
            area, x, y = self._around(self._place(), long)
            turn = self.rng.uniform(0, np.pi)
            along, beside = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
            profile = height * np.maximum(0, 1 - (along / long) ** 2 - (beside / short) ** 2) ** 2
            self.waves[area] += profile.astype(np.float32)
            self.labels[area][np.abs(profile) >= BUMP_WAVES] = _BUMP

    def add_instrument_rings(self) -> None:
        """Faint rings of dust on the optics, far from focus: no defect of the surface, and not labelled."""
        for _ in range(self.rng.integers(2, 8)):
            reach = self.side * self.rng.uniform(0.02, 0.06)
            area, x, y = self._around(self._place(), reach)
            self._ring(area, (x**2 + y**2) / reach**2, self.rng.uniform(0.02, 0.06), self.rng.uniform(3, 7))

    def add_digs(self) -> None:
        """Pits: no fringes inside, a bright rim where the light is scattered."""
        for _ in range(self.rng.integers(2, 12)):
            place, reach = self._place(), self.side * self.rng.uniform(0.002, 0.009)
            area, _, _ = self._around(place, 2.5 * reach + 3)
            inside = self._blot(area, place, reach, roughness=0.12)
            soft = _blur(inside, 0.1 * reach)
            rim = np.maximum(0, _blur(inside, 0.35 * reach) - soft)
            self.contrast[area] *= 1 - self.rng.uniform(0.7, 0.95) * soft
            self.light[area] *= 1 - self.rng.uniform(0.35, 0.75) * soft + self.rng.uniform(0.5, 1.2) * rim
            self.labels[area][inside > 0] = _DIG

    def add_scratches(self) -> None:
        """Grooves: long, hardly bent, thin, here and there interrupted."""
        for _ in range(self.rng.integers(1, 7)):
            length, turn = self.rng.uniform(0.1, 1.1), self.rng.uniform(0, 2 * np.pi)
            steps = np.linspace(-0.5, 0.5, 48)
            bend = self.rng.normal(0, 0.12) * (steps**2 - 0.08) + self.rng.normal(0, 0.05) * steps**3
            points = np.array(self._place()) + length * _turned(steps, bend, turn)
            width = self.side * self.rng.uniform(0.0006, 0.0028)
            whole = np.ones(len(steps) - 1, bool)
            if self.rng.random() < 0.4:
                whole[self.rng.integers(0, len(whole), 6)] = False
            area, inside = self._line(points, width, whole)
            soft = _blur(inside, 0.3 * width)
            self.contrast[area] *= 1 - self.rng.uniform(0.5, 0.9) * soft
            self.light[area] *= 1 + self.rng.choice((-0.7, -0.5, 0.45)) * self.rng.uniform(0.6, 1) * soft
            self.labels[area][inside > 0] = _SCRATCH

    def add_dust(self) -> None:
        """Specks with rings of diffraction, and curled fibres."""
        for _ in range(self.rng.integers(4, 22)):
            if self.rng.random() < 0.25:
                steps = np.linspace(0, 1, 40)
                heading = self.rng.uniform(0, 2 * np.pi) + np.cumsum(self.rng.normal(0, 0.22, 40))
                length = self.rng.uniform(0.03, 0.1) * steps[1]
                curl = np.cumsum(length * np.stack((np.cos(heading), np.sin(heading)), axis=1), axis=0)
                points = np.array(self._place()) + curl
                width = self.side * self.rng.uniform(0.0008, 0.0016)
                area, inside = self._line(points, width, np.ones(39, bool))
                soft = _blur(inside, 0.35 * width)
            else:
                place, reach = self._place(), self.side * self.rng.uniform(0.0012, 0.005)
                area, x, y = self._around(place, 6 * reach + 3)
                self._ring(area, (x**2 + y**2) / (6 * reach) ** 2, self.rng.uniform(0.1, 0.25), 5)
                inside = self._blot(area, place, reach, roughness=0.25)
                soft = _blur(inside, 0.15 * reach)
            self.light[area] *= 1 - self.rng.uniform(0.65, 0.95) * soft
            self.labels[area][inside > 0] = _DUST

    def expose(self) -> NDArray[np.uint8]:
        """What the camera sees; ``labels`` are complete afterwards."""
        cosine, _ = cv2.polarToCart(self.contrast, self.waves * np.float32(2 * np.pi))  # contrast * cos(2 pi waves)
        image: _Field = np.asarray(cosine, dtype=np.float32)
        image += 1
        image *= self.light
        image *= self._speckle()
        image *= self._edge()
        image += self.rng.uniform(2, 9) * (1 + 0.3 * self.across)
        image += self.rng.standard_normal(self.size, np.float32) * np.float32(self.rng.uniform(0.8, 2.5))
        return np.clip(image, 0, 255).astype(np.uint8)

    def expose_parts(self) -> tuple[_Field, _Field, _Field]:
        """What stays and what swings with the distance, see ``Exposure``; ``labels`` are complete afterwards."""
        light = self.light * self._speckle()
        light *= self._edge()
        cosine, sine = cv2.polarToCart(light * self.contrast, self.waves * np.float32(2 * np.pi))
        steady = light + (self.rng.uniform(2, 9) * (1 + 0.3 * self.across)).astype(np.float32)
        return steady, np.asarray(cosine, dtype=np.float32), np.asarray(sine, dtype=np.float32)

    def _edge(self) -> _Field:
        """Factors 0 to 1 at the edge of the surface; what lies outside is labelled so."""
        distance = np.sqrt(self.squared)
        # From 1 to 0 within two pixels at the edge; a bevel, one hundredth wide, is darker.
        edge = np.clip((self.radius - distance) * (self.side / 4) + 0.5, 0, 1)
        if self.hole:
            edge *= np.clip((distance - self.hole) * (self.side / 4) + 0.5, 0, 1)
        self.labels[(distance > self.radius) | (distance < self.hole)] = _OUTSIDE
        return np.asarray(edge * (0.55 + 0.45 * np.clip((self.radius - distance) * 100, 0, 1)), dtype=np.float32)

    def _figure(self) -> _Field:
        """Height of the whole surface in fringes."""
        rng, x, y = self.rng, self.across, self.down
        rings = rng.random() < 0.3
        turn = rng.uniform(0, 2 * np.pi)
        tilt = rng.uniform(0, 4) if rings else rng.uniform(4, 24)
        power = rng.choice((-1, 1)) * (rng.uniform(4, 11) if rings else rng.uniform(0, 5))
        astigmatism, (coma_x, coma_y) = rng.normal(0, 1.0), rng.normal(0, 0.8, 2)
        columns = tilt * np.cos(turn) * x + (power + astigmatism) * x**2 + rng.uniform(0, 1)
        rows = tilt * np.sin(turn) * y + (power - astigmatism) * y**2
        seidel = self.squared * np.float32(rng.normal(0, 0.8)) + (coma_x * x).astype(np.float32)
        seidel += (coma_y * y).astype(np.float32)
        seidel *= self.squared
        seidel += columns.astype(np.float32)
        seidel += rows.astype(np.float32)
        seidel += self._noise(float(rng.uniform(3, 9)), float(rng.uniform(0.03, 0.2)))
        figure: _Field = seidel
        return figure

    def _illumination(self) -> _Field:
        """Grey level of the beam: a Gaussian that is not quite in the middle, and a little uneven."""
        width, level = self.rng.uniform(0.75, 1.6), self.rng.uniform(75, 115)
        x, y = self.rng.normal(0, 0.15, 2)
        columns = level * np.exp(-((self.across - x) ** 2) / (2 * width**2))
        rows = np.exp(-((self.down - y) ** 2) / (2 * width**2))
        light: _Field = (columns * rows).astype(np.float32)
        light *= 1 + self._noise(5, 0.04)
        return light

    def _speckle(self) -> _Field:
        """Factors around 1, in grains of the size that the lens gives them."""
        grain = self.rng.uniform(0.7, 1.5) * self.side / SIDE
        noise = self.rng.standard_normal(self.size, np.float32)
        if grain > 0.3:
            noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), grain), dtype=np.float32)
        strength = self.rng.uniform(0.04, 0.09) * min(1.0, 1.5 * self.side / SIDE)
        noise *= np.float32(strength / float(cv2.meanStdDev(noise)[1][0, 0]))
        noise += 1
        return noise

    def _noise(self, detail: float, strength: float) -> _Field:
        """A smooth random field of mean 0: some ``detail`` hills a side, standard deviation ``strength``."""
        coarse = (-(-self.size[0] // _COARSE), -(-self.size[1] // _COARSE))
        rough = self.rng.standard_normal(coarse, np.float32)
        noise = cv2.GaussianBlur(rough, (0, 0), self.side / _COARSE / detail / 2.5, borderType=cv2.BORDER_REFLECT)
        noise = (noise - np.mean(noise)) * (strength / max(float(np.std(noise)), 1e-6))
        return np.asarray(cv2.resize(noise, self.size[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.float32)

    def _place(self) -> tuple[float, float]:
        """A place on the surface, not quite at its edge."""
        while True:
            x, y = self.rng.uniform(-0.95, 0.95, 2)
            if self.hole < np.hypot(x, y) < 0.95 * self.radius:
                return float(x), float(y)

    def _pixels(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """(x, y) in pixels from the top left, shape (n, 2)."""
        middle = (np.array(self.size[::-1]) - 1) / 2
        pixels: NDArray[np.float64] = places * (self.side / 2) + middle
        return pixels

    def _around(self, place: tuple[float, float], reach: float) -> tuple[_Area, _Field, _Field]:
        """The pixels up to ``reach`` from ``place``, and how far right and down of it they are."""
        x, y = self._pixels(np.array([place]))[0]
        area = self._area(x - reach, y - reach, x + reach, y + reach)
        right = np.arange(area[1].start, area[1].stop, dtype=np.float32)[None, :] - np.float32(x)
        down = np.arange(area[0].start, area[0].stop, dtype=np.float32)[:, None] - np.float32(y)
        return area, right, down

    def _area(self, left: float, top: float, right: float, bottom: float) -> _Area:
        height, width = self.size
        rows = slice(max(0, min(height - 1, int(top))), min(height, max(1, int(bottom) + 2)))
        columns = slice(max(0, min(width - 1, int(left))), min(width, max(1, int(right) + 2)))
        return rows, columns

    def _ring(self, area: _Area, squared: _Field, strength: float, rings: float) -> None:
        """Rings that grow narrower and fainter outwards; ``squared`` is the distance, 1 at their end."""
        waves = np.cos(2 * np.pi * rings * squared) * np.maximum(0, 1 - squared) ** 2
        self.light[area] *= (1 + strength * waves).astype(np.float32)

    def _blot(self, area: _Area, place: tuple[float, float], reach: float, *, roughness: float) -> _Field:
        """1 in an irregular spot around ``place``, 0 elsewhere in ``area``."""
        angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        reaches = np.full(36, reach)
        for k in (1, 2, 3, 5):
            reaches *= 1 + self.rng.normal(0, roughness / k) * np.cos(k * angles + self.rng.uniform(0, 7))
        reaches = np.maximum(0.3 * reach, reaches)
        squeezed = self.rng.uniform(0.6, 1) * reaches * np.sin(angles)
        outline = _turned(reaches * np.cos(angles), squeezed, self.rng.uniform(0, np.pi))
        outline += self._pixels(np.array([place]))
        inside = np.zeros(self.labels[area].shape, np.float32)
        corner = (area[1].start, area[0].start)
        cv2.fillPoly(inside, [np.round(outline - corner).astype(np.int32)], 1.0)
        return inside

    def _line(self, places: NDArray[np.float64], width: float, whole: NDArray[np.bool_]) -> tuple[_Area, _Field]:
        """The area around a line, and 1 where it runs; pieces that are not ``whole`` are left out."""
        pixels = self._pixels(places)
        margin = 3 * width + 3
        area = self._area(*(pixels.min(axis=0) - margin), *(pixels.max(axis=0) + margin))
        pixels = np.round(pixels - (area[1].start, area[0].start)).astype(np.int32)
        inside = np.zeros(self.labels[area].shape, np.float32)
        pieces = [pixels[i : i + 2] for i in np.flatnonzero(whole)]
        cv2.polylines(inside, pieces, isClosed=False, color=1.0, thickness=max(1, round(width)))
        return area, inside


def _axis(length: int, side: int) -> _Field:
    return ((np.arange(length, dtype=np.float32) - (length - 1) / 2) / (side / 2)).astype(np.float32)


def _turned(along: NDArray[np.float64], beside: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Points (n, 2) of a curve, turned by ``turn`` radians."""
    x = along * np.cos(turn) - beside * np.sin(turn)
    y = along * np.sin(turn) + beside * np.cos(turn)
    return np.stack((x, y), axis=1)


def _blur(inside: _Field, sigma: float) -> _Field:
    return np.asarray(cv2.GaussianBlur(inside, (0, 0), max(0.5, sigma)), dtype=np.float32)
