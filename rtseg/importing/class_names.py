"""The classes and colours of a foreign network: from the options, from files beside it, or from their number."""

from __future__ import annotations

from pathlib import Path

from rtseg.classes import PRESETS, Colour, class_colours, preset
from rtseg.errors import ModelError, OptionError
from rtseg.importing.plan import Fact, Head
from rtseg.importing.side_files import SideFacts
from rtseg.system.read_file import read_lines

__all__ = ["Classes", "find_classes"]

Classes = tuple[tuple[str, ...], tuple[Colour, ...]]

BACKGROUND = "background"
_BACKGROUNDS = ("background", "void", "other", "unlabeled", "unlabelled", "nothing", "bg", "_background_")
_BY_COUNT = {19: "cityscapes", 21: "voc", 150: "ade20k", 171: "coco-stuff", 81: "coco", 66: "mapillary"}
"""Number of classes -> the preset that is meant by most networks with this number."""


def find_classes(
    heads: tuple[Head, ...], given: tuple[str, ...], palette: str, sides: list[SideFacts], title: str
) -> tuple[tuple[Head, ...], Classes, Fact]:
    """Return the heads, their classes and the reason.

    A head whose channels have a sigmoid each, with as many names as channels and no background among them, gets the
    name ``background`` in front; with a background among the names, its largest channel wins instead.

    Raises:
        ModelError: the number of classes is not that of the network.
        OptionError: a preset or a file cannot be used.
    """
    side = next((each for each in sides if each.classes is not None), None)
    if given:
        names, colours, reason, is_guess = *_from_option(given), "--classes", False
    elif side is not None and side.classes is not None:
        names, colours, reason, is_guess = side.classes, [None] * len(side.classes), side.source, False
    else:
        names, colours, reason, is_guess = _from_count(heads, title)
    heads, added = _fit_background(heads, names)
    if added:
        names, colours = (BACKGROUND, *names), [(0, 0, 0), *colours]
    _check_count(heads, names, title)
    fact = Fact("classes", f"{len(names)}: {_shorten(names)}", reason, is_guess)
    return heads, (names, _palette(names, colours, palette)), fact


def _from_option(given: tuple[str, ...]) -> tuple[tuple[str, ...], list[Colour | None]]:
    names: list[str] = []
    colours: list[Colour | None] = []
    for each in given:
        if each in PRESETS:
            known, palette = preset(each)
            names.extend(known)
            colours.extend(palette)
            continue
        lines = _lines(Path(each)) if Path(each).suffix in (".txt", ".names", ".csv") else [each]
        names.extend(lines)
        colours.extend([None] * len(lines))
    return tuple(names), colours


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in read_lines(path)]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise OptionError(f"cannot read the classes in {path} ({reason}): give names, a preset or a file") from error
    return [line for line in lines if line]


def _from_count(heads: tuple[Head, ...], title: str) -> tuple[tuple[str, ...], list[Colour | None], str, bool]:
    """Name the classes of a network of which nobody says anything."""
    count = _expected(heads)
    if count is None:
        raise ModelError(f"{title} does not show how many classes it has: give --classes")
    if len(heads) == 1 and heads[0].kind == "scores" and count in _BY_COUNT:
        names, palette = preset(_BY_COUNT[count])
        return names, list(palette), f"{count} channels, as {_BY_COUNT[count]} has", True
    names = tuple(f"class {index}" for index in range(count))
    if heads[0].kind == "sigmoid":
        names = (BACKGROUND, *names[1:])
    return names, [None] * count, "nothing names them: give --classes", True


def _expected(heads: tuple[Head, ...]) -> int | None:
    """Return the number of classes of all heads; None where a graph does not show it."""
    if any(head.classes == 0 for head in heads):
        return None
    return heads[0].classes + sum(head.classes - 1 for head in heads[1:])


def _fit_background(heads: tuple[Head, ...], names: tuple[str, ...]) -> tuple[tuple[Head, ...], bool]:
    """Return the heads, and whether a background must be added to the names."""
    from dataclasses import replace

    first = heads[0]
    if len(heads) > 1 or first.kind != "sigmoid" or len(names) != first.channels:
        return heads, False
    if first.channels > 1 and any(name.lower() in _BACKGROUNDS for name in names):
        return (replace(first, kind="scores"),), False
    return heads, True


def _check_count(heads: tuple[Head, ...], names: tuple[str, ...], title: str) -> None:
    expected = _expected(heads)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise OptionError(f"--classes names {repeated[0]!r} twice: each class needs a name of its own")
    if len(names) > 255 or expected is None or expected == len(names):
        return
    sigmoid = " (with a background, where no channel reaches the threshold)" if heads[0].kind == "sigmoid" else ""
    advice = (
        "name the others too, and leave out what is not wanted with --drop NAME, e.g. --classes "
        f"{names[0]},..,void --drop void"
        if expected > len(names)
        else "give fewer names"
    )
    raise ModelError(f"{title} has {expected} classes{sigmoid}, but {len(names)} are named: {advice}")


def _palette(names: tuple[str, ...], colours: list[Colour | None], palette: str) -> tuple[Colour, ...]:
    spare = class_colours(len(names))
    if palette:
        given = preset(palette)[1] if palette in PRESETS else _read_palette(Path(palette))
        return tuple(given[index] if index < len(given) else spare[index] for index in range(len(names)))
    used = {colour for colour in colours if colour is not None}
    free = iter([colour for colour in class_colours(255) if colour not in used])
    if names and names[0].lower() not in _BACKGROUNDS and colours[0] is None:
        next(free)  # black is for a background
    return tuple(colour if colour is not None else next(free) for colour in colours)


def _read_palette(path: Path) -> tuple[Colour, ...]:
    colours = []
    for line in _lines(path):
        try:
            red, green, blue = (int(part) for part in line.replace(",", " ").split()[:3])
        except ValueError as error:
            raise OptionError(f"--palette {path} needs R G B, 0 to 255, on each line; got {line!r}") from error
        colours.append((red, green, blue))
    return tuple(colours)


def _shorten(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])}, .. {names[-1]}"
