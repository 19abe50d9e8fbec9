"""Values that an option takes as one text: sizes, ranges, numbers and names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rtseg.errors import OptionError

__all__ = ["VALUES", "Values", "parse_size"]

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Values:
    """How Typer reads an option, and how that becomes the value of a field."""

    kind: Any
    """The type that Typer reads."""
    metavar: str = ""
    to_cli: Callable[[Any], Any] = lambda value: value
    """The default of the field, as the user would write it."""
    parse: Callable[[Any, str], Any] = lambda given, option: given
    """What Typer read and the name of the option -> the value of the field, or OptionError."""


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """``HEIGHTxWIDTH`` in pixels, e.g. ``384x640``.

    Raises:
        OptionError: the text is not of that form.
    """
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text.strip())
    if match is None:
        raise OptionError(f"{option} must be HEIGHTxWIDTH in pixels, e.g. 384x640; got {text!r}")
    return int(match[1]), int(match[2])


def _parse_numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split("/"))
    except ValueError as error:
        raise OptionError(f"{option} must be numbers separated by slashes, e.g. 1/0.4; got {text!r}") from error


def _parse_range(text: str, option: str) -> tuple[float, float]:
    numbers = _parse_numbers(text, option)
    if len(numbers) != 2:
        raise OptionError(f"{option} must be two numbers separated by a slash, e.g. 0.5/2; got {text!r}")
    return numbers[0], numbers[1]


def _parse_integers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise OptionError(f"{option} must be whole numbers separated by commas, e.g. 0,2,8; got {text!r}") from error


def _parse_names(text: str, option: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _parse_steps(texts: list[str], option: str) -> tuple[str, ...]:
    from rtseg.preprocess import parse_steps  # loads numpy and OpenCV

    return parse_steps(",".join(texts)) or ()


def _parse_duration(text: str, option: str) -> float:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(s|m|min|h|d)?", text.strip())
    if match is None:
        raise OptionError(f"{option} must be a time, e.g. 30s, 10m or 1h; got {text!r}")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def _parse_bytes(text: str, option: str) -> int:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([kmgt]?)(i?)b?", text.strip(), re.IGNORECASE)
    if match is None:
        raise OptionError(f"{option} must be a size, e.g. 500MB or 20GB; got {text!r}")
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024.0 if match[3] else 1000.0) ** power)


def _by_slashes(numbers: tuple[float, ...]) -> str:
    return "/".join(f"{number:g}" for number in numbers)


VALUES: dict[Any, Values] = {
    tuple[int, int]: Values(str, "HEIGHTxWIDTH", lambda size: f"{size[0]}x{size[1]}", parse_size),
    tuple[float, float]: Values(str, "LOW/HIGH", _by_slashes, _parse_range),
    tuple[float, ...]: Values(str, "NUMBER/NUMBER/...", _by_slashes, _parse_numbers),
    tuple[int, ...]: Values(str, "NUMBER,NUMBER,...", lambda numbers: ",".join(map(str, numbers)), _parse_integers),
    "names": Values(str, "NAME,NAME,...", ",".join, _parse_names),
    "duration": Values(str, "TIME", str, _parse_duration),
    "bytes": Values(str, "SIZE", str, _parse_bytes),
    "steps": Values(list[str], "STEP,STEP,...", list, _parse_steps),
}
"""By the type of the field, or by ``Option.parse``."""
