"""Synthetic sources: ``demo``, a street, and ``fringes``, an interferogram."""

from __future__ import annotations

import math
import re
import time
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from rtseg.errors import OptionError
from rtseg.frame import Frame, Image, Labels
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions
from rtseg.synthetic.fringes import DEFAULT_SIDE, SIDE_LIMITS, expose_surface
from rtseg.synthetic.street import Street
from rtseg.system.opencv import cv2

__all__ = ["FPS", "FringesSource", "Street", "StreetSource", "parse_where"]

FPS = 25.0
"""Frames per second. In one second the fringes move by one period, so the mean over whole seconds has no fringes."""
_REST = r"(?::(?P<seconds>[^@]+)?(?:@(?P<width>\d{1,5})x(?P<height>\d{1,5}))?(?<!:))?"
_STREET_SIDES = (64, 8192)
"""Smallest and largest width and height of the street, in pixels."""
_SURFACE = (1, 0, 0, 0)
"""Seed of the surface: the first image of the validation split of ``synthetic:fringes``."""
_NOISE = 1.5
"""Standard deviation of the camera noise, in grey values."""
_SHIFT = 64
"""The noise is drawn once, larger than the images by this many pixels; each image uses another part of it."""


class _SyntheticSource(Source):
    """Draws its frames on demand, so it is not live. Without a duration it never ends."""

    def __init__(
        self, where: str, word: str, size: tuple[int, int], side_limits: tuple[int, int], options: SourceOptions
    ) -> None:
        super().__init__(word, options)
        self.fps = FPS
        seconds, self._size = parse_where(where, word, size, side_limits)
        self.is_endless = seconds is None
        if seconds is not None:
            self.frame_count = math.ceil(seconds * FPS - 1e-6)

    @abstractmethod
    def _draw(self, index: int) -> Image:
        """The image of frame ``index``, which is shown at ``index / FPS`` seconds."""

    def _read(self) -> Iterator[Frame]:
        # The tolerance is that of ``Source``: rounding must not lose a frame at start_s.
        index = max(math.ceil((self.options.start_s - 1e-6) * FPS), 0)
        while not self.stopped and (self.frame_count is None or index < self.frame_count):
            yield Frame(self._draw(index), index, index / FPS, time.monotonic())
            index += 1


class StreetSource(_SyntheticSource):
    """A drive along a synthetic street: ``demo``, ``demo:SECONDS``, ``demo:@WxH`` or ``demo:SECONDS@WxH``.

    Raises:
        OptionError: ``where`` has another form.
    """

    def __init__(self, where: str, options: SourceOptions) -> None:
        super().__init__(where, "demo", (540, 960), _STREET_SIDES, options)
        self.street = Street(self._size)
        """The drawn scene; it also gives the ground truth of every image."""

    def labels_at(self, pts_s: float) -> Labels:
        """The true class of every pixel of the frame at ``pts_s``: uint8 (H, W), as in ``rtseg.camvid_classes``.

        Args:
            pts_s: time of the frame, in seconds. When the source loops, relative to the start of the pass.
        """
        return self.street.render(pts_s)[1]

    def _draw(self, index: int) -> Image:
        return self.street.render(index / FPS)[0]


class FringesSource(_SyntheticSource):
    """A surface in an interferometer with a moving piezo: ``fringes``, ``fringes:SECONDS`` or ``fringes:SECONDS@WxH``.

    Images are grey, (H, W, 1), by default of 3072x3072.

    Raises:
        OptionError: ``where`` has another form.
    """

    def __init__(self, where: str, options: SourceOptions) -> None:
        super().__init__(where, "fringes", (DEFAULT_SIDE, DEFAULT_SIDE), SIDE_LIMITS, options)

    def _read(self) -> Iterator[Frame]:
        height, width = self._size
        rng = np.random.default_rng(_SURFACE)
        self._surface = expose_surface(self._size, _SURFACE)
        self._noise = rng.standard_normal((height + _SHIFT, width + _SHIFT), np.float32) * np.float32(_NOISE)
        yield from super()._read()

    def _draw(self, index: int) -> Image:
        height, width = self._size
        down, right = np.random.default_rng((*_SURFACE, index)).integers(0, _SHIFT, 2)
        fringes = self._surface.at_phase(2 * math.pi * index / FPS)
        grey = cv2.add(fringes, self._noise[down : down + height, right : right + width], dtype=cv2.CV_8U)
        return np.asarray(grey, dtype=np.uint8)[..., None]


def parse_where(
    where: str, word: str, size: tuple[int, int], side_limits: tuple[int, int]
) -> tuple[float | None, tuple[int, int]]:
    """Parse ``WORD:SECONDS@WxH``.

    Args:
        where: the text.
        word: what it must start with.
        size: default size (H, W), in pixels.
        side_limits: smallest and largest width and height, in pixels.

    Returns:
        The seconds, None for an endless source, and the size (H, W).

    Raises:
        OptionError: the text has another form.
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
        if not (side_limits[0] <= min(size) and max(size) <= side_limits[1]):
            raise OptionError(f"width and height in {where!r} must be in {side_limits[0]}..{side_limits[1]}: {hint}")
    return seconds, size
