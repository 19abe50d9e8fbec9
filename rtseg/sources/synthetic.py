"""Sources that rtseg draws itself: ``demo``, a street, and ``fringes``, an interferogram."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator

import numpy as np

from rtseg.errors import OptionError
from rtseg.frame import Frame, Labels
from rtseg.sources.base import Source, SourceOptions
from rtseg.synthetic.fringes import DEFAULT_SIDE, SIDE_LIMITS, expose_surface
from rtseg.synthetic.street import Street
from rtseg.system.opencv import cv2

__all__ = ["FPS", "FringesSource", "Street", "StreetSource", "parse_where"]

FPS = 25.0
"""Frames of a second, in which the fringes move on by one: the mean over whole seconds shows none."""
_REST = r"(?::(?P<seconds>[^@]+)?(?:@(?P<width>\d{1,5})x(?P<height>\d{1,5}))?(?<!:))?"
_STREET_SIDES = (64, 8192)
"""Least and greatest width and height of the street, in pixels."""
_SURFACE = (1, 0, 0, 0)
"""The first image of ``synthetic:fringes`` of the validation split."""
_NOISE = 1.5
"""Of the camera: standard deviation, in grey values."""
_SHIFT = 64
"""Noise is drawn once, so many pixels larger than the images: each shows another part of it."""


class StreetSource(Source):
    """A drive along a synthetic street: ``demo``, ``demo:SECONDS``, ``demo:@WxH`` or ``demo:SECONDS@WxH``.

    Without SECONDS it never ends. It is no live source: it waits for whoever reads it.

    Raises:
        OptionError: the text is none of these.
    """

    def __init__(self, where: str, options: SourceOptions) -> None:
        super().__init__("demo", options)
        self.live = False
        self.fps = FPS
        seconds, size = parse_where(where, "demo", (540, 960), _STREET_SIDES)
        if seconds is not None:
            self.frame_count = math.ceil(seconds * FPS - 1e-6)
        self.street = Street(size)
        """What is shown; it also gives the truth of every image."""

    def labels_at(self, pts_s: float) -> Labels:
        """The true class of every pixel of the frame at ``pts_s``: uint8 (H, W), as in ``rtseg.camvid_classes``.

        Args:
            pts_s: as it stands in the frame. When the source loops, counted from the start of the pass.
        """
        return self.street.render(pts_s)[1]

    def _read(self) -> Iterator[Frame]:
        # The slack is that of ``Source``: a frame at start_s must not be lost to the last bit of a product.
        index = math.ceil((self.options.start_s - 1e-6) * FPS)
        index = max(index, 0)
        while not self.stopped and (self.frame_count is None or index < self.frame_count):
            pts_s = index / FPS
            image, _ = self.street.render(pts_s)
            yield Frame(image, index, pts_s, time.monotonic())
            index += 1


def parse_where(
    where: str, word: str, size: tuple[int, int], sides: tuple[int, int]
) -> tuple[float | None, tuple[int, int]]:
    """Seconds (None: endless) and size (H, W) in ``WORD:SECONDS@WxH``.

    Args:
        where: the text.
        word: what it begins with.
        size: what it is to be where it is not said.
        sides: least and greatest width and height, in pixels.

    Raises:
        OptionError: the text is not of that form.
    """
    hint = (
        f"write {word}, {word}:SECONDS or {word}:SECONDS@WIDTHxHEIGHT, for example {word}:10 or "
        f"{word}:10@{size[1]}x{size[0]}"
    )
    match = re.fullmatch(word + _REST, where.strip(), re.IGNORECASE)
    if match is None:
        raise OptionError(f"cannot understand the source {where!r}: {hint}")
    seconds: float | None = None
    if match["seconds"] is not None:
        try:
            seconds = float(match["seconds"])
        except ValueError as error:
            raise OptionError(f"{match['seconds']!r} in {where!r} is not a number of seconds: {hint}") from error
        if not 0 < seconds < math.inf:
            raise OptionError(f"the seconds in {where!r} must be a number above 0: {hint}")
    if match["width"] is not None:
        size = (int(match["height"]), int(match["width"]))
        if not (sides[0] <= min(size) and max(size) <= sides[1]):
            raise OptionError(f"width and height in {where!r} must lie within {sides[0]}..{sides[1]}: {hint}")
    return seconds, size


class FringesSource(Source):
    """A surface in an interferometer, piezo running: ``fringes``, ``fringes:SECONDS`` or ``fringes:SECONDS@WxH``.

    Images are grey, (H, W, 1), of 3072x3072 unless said. Without SECONDS it never ends. It is no live source: it
    waits for whoever reads it.

    Raises:
        OptionError: the text is none of these.
    """

    def __init__(self, where: str, options: SourceOptions) -> None:
        super().__init__("fringes", options)
        self.fps = FPS
        seconds, self._size = parse_where(where, "fringes", (DEFAULT_SIDE, DEFAULT_SIDE), SIDE_LIMITS)
        if seconds is not None:
            self.frame_count = math.ceil(seconds * FPS - 1e-6)

    def _read(self) -> Iterator[Frame]:
        surface = expose_surface(self._size, _SURFACE)
        height, width = self._size
        rng = np.random.default_rng(_SURFACE)
        noise = rng.standard_normal((height + _SHIFT, width + _SHIFT), np.float32) * np.float32(_NOISE)
        # The slack is that of ``Source``: a frame at start_s must not be lost to the last bit of a product.
        index = max(math.ceil((self.options.start_s - 1e-6) * FPS), 0)
        while not self.stopped and (self.frame_count is None or index < self.frame_count):
            down, right = np.random.default_rng((*_SURFACE, index)).integers(0, _SHIFT, 2)
            seen = surface.at_phase(2 * math.pi * index / FPS)
            grey = cv2.add(seen, noise[down : down + height, right : right + width], dtype=cv2.CV_8U)
            yield Frame(np.asarray(grey, dtype=np.uint8)[..., None], index, index / FPS, time.monotonic())
            index += 1
