"""A polygon in the frame, and how it is written. Importing this loads no library."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from rtseg.errors import OptionError

__all__ = ["Region", "parse_region", "parse_regions"]

_NAME = re.compile(r"[^\W\d][\w-]{0,39}")
_NUMBER = re.compile(r"\d{1,6}(?:\.\d{1,6})?(%?)")
_MOST_POINTS: Final = 256
_MOST_REGIONS: Final = 64
_SHAPES = "x,y,width,height or at least three points x1,y1 x2,y2 x3,y3"


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the frame.

    Raises:
        OptionError: the name is no word, there are fewer than 3 or more than 256 points, a coordinate is negative or,
            as a fraction, more than 1, or the area is 0.
    """

    points: tuple[tuple[float, float], ...]
    """Corners (x, y) of a polygon, x to the right and y down from the upper left corner of the frame."""
    name: str = ""
    """For events and statistics. Regions without a name limit what is labelled."""
    is_fraction: bool = False
    """Whether the coordinates are fractions of the frame's width and height, 0..1, and not pixels."""

    def __post_init__(self) -> None:
        if self.name and _NAME.fullmatch(self.name) is None:
            raise OptionError(f"the name {self.name!r} of a region must be one word of at most 40 letters and digits")
        if not 3 <= len(self.points) <= _MOST_POINTS:
            raise OptionError(f"{self.label}: a region has 3 to {_MOST_POINTS} corners, got {len(self.points)}")
        if not all(value >= 0 for point in self.points for value in point):
            raise OptionError(f"{self.label}: coordinates must not be negative")
        if self.is_fraction and not all(value <= 1 for point in self.points for value in point):
            raise OptionError(f"{self.label}: fractions must be at most 1, or 100%")
        if _area(self.points) <= 0:
            raise OptionError(f"{self.label}: the area of the region is 0: give its corners in order")

    @property
    def label(self) -> str:
        """For messages."""
        return f"--roi {self.name}" if self.name else "--roi"

    def in_pixels(self, size: tuple[int, int]) -> Region:
        """The same region in pixels of a frame of ``size`` = (H, W).

        Raises:
            OptionError: it reaches beyond the frame.
        """
        height, width = size
        if self.is_fraction:
            points = tuple((x * width, y * height) for x, y in self.points)
            return replace(self, points=points, is_fraction=False)
        right, bottom = (max(point[axis] for point in self.points) for axis in (0, 1))
        if right > width or bottom > height:
            raise OptionError(
                f"{self.label} reaches to {right:g},{bottom:g}, but the frame has {width}x{height} pixels "
                "(width x height): give smaller numbers, or percent"
            )
        return self

    def scaled(self, before: tuple[int, int], after: tuple[int, int]) -> Region:
        """A region in pixels, for frames that have changed their size (H, W)."""
        scale_y, scale_x = after[0] / before[0], after[1] / before[1]
        return replace(self, points=tuple((x * scale_x, y * scale_y) for x, y in self.points))


def parse_region(text: str) -> Region:
    """Read ``[NAME=]x,y,width,height`` or ``[NAME=]x1,y1 x2,y2 x3,y3 ...``.

    Numbers are pixels; with a % sign percent of the frame's width or height; fractions of them where all numbers are at
    most 1 and one has a decimal point.

    Raises:
        OptionError: the text is not of that form; see also ``Region``.
    """
    before, equals, after = text.rpartition("=")
    name, shape = before.strip(), after.strip()
    if equals and _NAME.fullmatch(name) is None:
        raise OptionError(f"--roi {text!r}: the name of a region must be one word of at most 40 letters and digits")
    tokens = [[part.strip() for part in pair.split(",")] for pair in re.sub(r"\s*,\s*", ",", shape).split()]
    found = [[_NUMBER.fullmatch(token) for token in pair] for pair in tokens]
    lengths = [len(pair) for pair in found]
    is_box = lengths == [4]
    if not all(match for pair in found for match in pair) or not (is_box or (len(lengths) > 2 and set(lengths) == {2})):
        raise OptionError(f"--roi {text!r} must be {_SHAPES}, in pixels or percent; e.g. gate=10%,20%,30%,40%")
    values, is_fraction = _values([token for pair in tokens for token in pair], text)
    if is_box:
        left, top, width, height = values
        right, bottom = left + width, top + height
        if is_fraction and max(right, bottom) < 1 + 1e-9:
            right, bottom = min(right, 1.0), min(bottom, 1.0)  # 0.7 + 0.3 may be a little more than 1
        return Region(((left, top), (right, top), (right, bottom), (left, bottom)), name, is_fraction)
    return Region(tuple(zip(values[::2], values[1::2], strict=True)), name, is_fraction)


def parse_regions(texts: Iterable[str]) -> tuple[Region, ...]:
    """Read several regions, with different names.

    Raises:
        OptionError: a text is not a region, two have the same name, or there are more than 64.
    """
    regions = tuple(parse_region(text) for text in texts)
    names = [region.name for region in regions if region.name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"two regions are named {twice}: give each --roi a name of its own")
    if len(regions) > _MOST_REGIONS:
        raise OptionError(f"--roi can be given {_MOST_REGIONS} times, got {len(regions)}")
    return regions


def _values(tokens: list[str], text: str) -> tuple[list[float], bool]:
    """The numbers, and whether they are fractions."""
    values = [float(token.rstrip("%")) for token in tokens]
    if any(token.endswith("%") for token in tokens):
        if not all(token.endswith("%") or value == 0 for token, value in zip(tokens, values, strict=True)):
            raise OptionError(f"--roi {text!r} mixes pixels and percent: write % after each number, or after none")
        return [value / 100 for value in values], True
    return values, all(value <= 1 for value in values) and any("." in token for token in tokens)


def _area(points: tuple[tuple[float, float], ...]) -> float:
    """The area of a polygon by the shoelace formula; of one that crosses itself, at least not 0 by chance."""
    pairs = list(zip(points, (*points[1:], points[0]), strict=True))
    signed = abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs)) / 2
    if signed > 0:
        return signed
    width, height = (max(p[axis] for p in points) - min(p[axis] for p in points) for axis in (0, 1))
    return width * height if len(points) > 3 else 0.0
