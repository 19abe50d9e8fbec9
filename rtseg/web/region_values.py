"""Regions as JSON values: corners as fractions of the frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rtseg.errors import OptionError
from rtseg.regions import Region

__all__ = ["regions_from_json", "regions_to_json"]

_MOST_REGIONS = 64


def regions_from_json(value: Any) -> list[Region]:
    """Read a list of objects with ``points``, [x, y] in 0..1 each, and perhaps ``name``.

    Raises:
        OptionError: it is none, or a region is not possible.
    """
    if not isinstance(value, list) or len(value) > _MOST_REGIONS:
        raise OptionError(f"regions must be a list of at most {_MOST_REGIONS}")
    return [_region(each) for each in value]


def _region(value: Any) -> Region:
    try:
        points = tuple((_number(x), _number(y)) for x, y in value["points"])
        name = value.get("name", "")
        if not isinstance(name, str):
            raise TypeError("no text")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise OptionError("a region must be an object with points, a list of [x, y], and perhaps name") from error
    return Region(points, name, is_fraction=True)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return float(value)


def regions_to_json(regions: Iterable[Region], size: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Return the regions for a viewer; those in pixels only if the ``size`` (H, W) of the frames is known."""
    return [
        {"name": each.name, "points": [[x / width, y / height] for x, y in each.points]}
        for each in regions
        if each.is_fraction or size is not None
        for height, width in [(1, 1) if each.is_fraction or size is None else size]
    ]
