"""``demo``: a street that rtseg draws itself, as a source. It needs no file, no camera and no network."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator

from rtseg.errors import OptionError
from rtseg.frame import Frame, Labels
from rtseg.sources import Source, SourceOptions
from rtseg.sources._street import Street

__all__ = ["FPS", "Street", "StreetSource", "parse_where"]

FPS = 25.0
"""Frames of a second of the street."""

_REST = r"(?::(?P<seconds>[^@]+)?(?:@(?P<width>\d{1,5})x(?P<height>\d{1,5}))?(?<!:))?"
_SIDES = (64, 8192)
"""Least and greatest width and height, in pixels."""


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
        seconds, size = parse_where(where, "demo", (540, 960), _SIDES)
        if seconds is not None:
            self.frame_count = math.ceil(seconds * FPS - 1e-6)
        self.street = Street(size)
        """What is shown; it also gives the truth of every picture."""

    def labels_at(self, pts_s: float) -> Labels:
        """The true class of every pixel of the frame at ``pts_s``: uint8 (H, W), as in ``rtseg.camvid``.

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
            picture, _ = self.street.render(pts_s)
            yield Frame(picture, index, pts_s, time.monotonic())
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
