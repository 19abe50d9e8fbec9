"""Mapping from the values of masks, numbers or colours, to classes, given in ``--data`` or in a JSON file.

    road+car+sky                            numbers 0, 1, 2
    background:0+crack:255                  numbers 0 and 255
    Building:#3C1098+Road:#6EC1E4           colours

As JSON: ``{"classes": {"Building": "#3C1098", "Road": 7, "Car": {"ids": [26, 27]}}, "void": [0, "#000000"]}``, or
``{"classes": ["road", "car"]}``, or ``{"classes": [{"name": "Road", "colour": "#6EC1E4", "id": 7}]}``.
"""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.datasets.mask_files import StoredMask
from rtseg.errors import DatasetError
from rtseg.frame import Labels
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2
from rtseg.system.read_file import read_text

__all__ = ["ClassMapping", "Colour", "distinct_colours", "parse_class_mapping"]

Colour = tuple[int, int, int]
"""RGB, 0..255."""

_MAX_NAMED = 5
"""Undeclared values that a message names."""
_GOLDEN_RATIO = 0.6180339887
_ADVICE = "add a class, or make it void with void= or undeclared=void"
_NUMBERS = 1 << 16
"""Mask numbers are 0 .. 65535."""


class ClassMapping:
    """Classes, and the mask numbers and colours mapped to them.

    A mask of numbers (grey, or with a palette) is read by number if the mapping has numbers, otherwise by colour. A
    mask of colours is read by colour; if the mapping has only numbers, a mask of greys is read by number. The number
    255 is void unless it is mapped to a class.

    Raises:
        DatasetError: there are no classes or more than 255, or a value is mapped to two classes.
    """

    def __init__(
        self,
        values: Mapping[str, Sequence[int | Colour]],
        *,
        void: Iterable[int | Colour | str] = (),
        undeclared_is_void: bool = False,
        name: str = "classes=",
        advice: str = "",
    ) -> None:
        """Build the mapping.

        Args:
            values: numbers 0..65535 and RGB colours of each class, in the order of the class IDs.
            void: values mapped to void; a class name makes this class void.
            undeclared_is_void: whether undeclared values are void, too.
            name: what messages call the mapping.
            advice: what a user can do about an undeclared value, for messages.
        """
        self.name = name
        self._advice = f": {advice}" if advice else ""
        values, void_values = _remove_void_classes(values, void)
        if not 1 <= len(values) <= VOID:
            raise DatasetError(f"{name} has {len(values)} classes: there must be 1 to {VOID}")
        self.classes = tuple(values)
        self._undeclared_is_void = undeclared_is_void
        self._numbers: dict[int, int] = {}
        self._colours: dict[int, int] = {}
        for class_id, class_values in [*enumerate(values.values()), (VOID, void_values)]:
            for value in class_values:
                self._declare(value, class_id)
        self._has_numbers = any(class_id != VOID for class_id in self._numbers.values())
        self._has_colours = any(class_id != VOID for class_id in self._colours.values())
        if self._has_numbers:
            self._numbers.setdefault(VOID, VOID)
        declared = {class_id: _unpack(colour) for colour, class_id in reversed(self._colours.items())}
        self.palette = tuple(declared.get(i, colour) for i, colour in enumerate(distinct_colours(len(values))))

    def _declare(self, value: int | Colour, class_id: int) -> None:
        declared, key = (self._numbers, value) if isinstance(value, int) else (self._colours, _pack(value))
        if declared.get(key, class_id) != class_id:
            names = " and ".join("void" if i == VOID else self.classes[i] for i in sorted((declared[key], class_id)))
            raise DatasetError(f"{self.name}: {_format(value)} is declared for {names}")
        declared[key] = class_id

    def labels(self, mask: StoredMask, path: Path) -> Labels:
        """Return the class IDs of ``mask``, uint8 (H, W), 255 where void.

        Raises:
            DatasetError: ``mask`` has an undeclared value; the message names ``path`` and the value.
        """
        if mask.colours is not None and self._has_colours:
            labels = self._colour_lut[mask.colours]
            self._refuse_undeclared(path, labels, mask.colours, self._colours, "#{:06X}".format)
            return labels
        if mask.numbers is not None and self._has_numbers:
            labels = _look_up(self._number_lut, mask.numbers)
            self._refuse_undeclared(path, labels, mask.numbers, self._numbers, str)
            return labels
        if mask.numbers is None:
            raise DatasetError(f"{path} holds colours, {self.name} only numbers: declare colours, e.g. Road:#6EC1E4")
        if mask.palette is None:
            raise DatasetError(f"{path} holds 16-bit numbers, {self.name} only colours: declare numbers, e.g. Road:7")
        colours = mask.palette.tolist()
        palette_lut = np.array([self._colours.get(colour, VOID) for colour in colours], np.uint8)
        labels = _look_up(palette_lut, mask.numbers)
        declared = {number for number in range(256) if colours[number] in self._colours}
        self._refuse_undeclared(path, labels, mask.numbers, declared, lambda number: f"#{colours[number]:06X}")
        return labels

    def _refuse_undeclared(
        self,
        path: Path,
        labels: Labels,
        stored: NDArray[Any],
        declared: Container[int],
        to_text: Callable[[int], str],
    ) -> None:
        if self._undeclared_is_void:
            return
        values, counts = np.unique(stored[labels == VOID], return_counts=True)
        pixels = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
        unknown = sorted((value for value in pixels if value not in declared), key=lambda value: -pixels[value])
        if not unknown:
            return
        named = ", ".join(f"{to_text(value)} ({pixels[value]} pixels)" for value in unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        raise DatasetError(f"{path} holds {named}{more}, which {self.name} does not declare{self._advice}")

    @cached_property
    def _number_lut(self) -> NDArray[np.uint8]:
        lut = np.full(_NUMBERS, VOID, np.uint8)
        lut[list(self._numbers)] = list(self._numbers.values())
        return lut

    @cached_property
    def _colour_lut(self) -> NDArray[np.uint8]:
        """Table of all 2^24 colours, 16 MiB: one exact look-up per pixel, as fast as for 256 colours."""
        lut = np.full(1 << 24, VOID, np.uint8)
        lut[list(self._colours)] = list(self._colours.values())
        return lut

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the look-up tables when pickling: each data loader worker builds its own."""
        return {key: value for key, value in self.__dict__.items() if not key.endswith("_lut")}


def _look_up(lut: NDArray[np.uint8], numbers: NDArray[Any]) -> Labels:
    if numbers.dtype == np.uint8:
        return np.asarray(cv2.LUT(numbers, lut[:256]), dtype=np.uint8)
    labels: Labels = lut[numbers]
    return labels


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """Return ``count`` distinct RGB colours: hues spaced by the golden ratio, with three strengths."""
    strengths = ((0.65, 0.95), (0.9, 0.75), (0.45, 0.6))
    colours = (colorsys.hsv_to_rgb((0.58 + i * _GOLDEN_RATIO) % 1, *strengths[i % 3]) for i in range(count))
    return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours)


def parse_class_mapping(text: str, *, void: str = "", undeclared_is_void: bool = False) -> ClassMapping:
    """Parse the values of ``classes=`` and ``void=``.

    Args:
        text: a JSON file, or classes joined by ``+``.
        void: numbers, colours and class names joined by ``+``.
        undeclared_is_void: see ``ClassMapping``.

    Raises:
        DatasetError: the file cannot be read, or an entry is invalid.
    """
    void_entries = [_parse_void_entry(entry) for entry in void.split("+") if entry]
    if not text.lower().endswith(".json"):
        values = _parse_inline(text)
        return ClassMapping(values, void=void_entries, undeclared_is_void=undeclared_is_void, advice=_ADVICE)
    path = Path(text).expanduser()
    try:
        facts = json.loads(read_text(path))
    except OSError as error:
        raise DatasetError(f"cannot read the class mapping {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not a JSON file: {' '.join(str(error).split())}") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("classes"), dict | list):
        raise DatasetError(f'{path} must hold {{"classes": {{"Road": "#6EC1E4", "Car": 7}}}}')
    stored_void = facts.get("void", [])
    if not isinstance(stored_void, list):
        raise DatasetError(f'{path}: "void" must be a list of numbers and colours, got {stored_void!r}')
    values = dict(_json_classes(path, facts["classes"]))
    file_void = [value for entry in stored_void for value in _json_values(path, "void", entry)]
    return ClassMapping(
        values,
        void=[*file_void, *void_entries],
        undeclared_is_void=undeclared_is_void,
        name=path.name,
        advice=_ADVICE,
    )


def _remove_void_classes(
    values: Mapping[str, Sequence[int | Colour]], void: Iterable[int | Colour | str]
) -> tuple[Mapping[str, Sequence[int | Colour]], list[int | Colour]]:
    """Return the classes that ``void`` does not name, and all void values."""
    void_values: list[int | Colour] = []
    for entry in void:
        if not isinstance(entry, str):
            void_values.append(entry)
            continue
        if entry not in values:
            raise DatasetError(f"void={entry}: there is no such class; there are {', '.join(values)}")
        void_values += values[entry]
        values = {key: value for key, value in values.items() if key != entry}
    return values, void_values


def _parse_inline(text: str) -> dict[str, list[int | Colour]]:
    values: dict[str, list[int | Colour]] = {}
    for number, entry in enumerate(text.split("+")):
        name, colon, stored = entry.rpartition(":")
        value = _parse_value(stored) if colon else number
        if not colon:
            name = entry
        if not name or value is None or name in values:
            raise DatasetError(
                f"classes={text}: {entry!r} must be a new name, optionally with a number or colour, e.g. road:7 or "
                "road:#6EC1E4; or give a .json file"
            )
        values[name] = [value]
    return values


def _json_classes(path: Path, classes: dict[str, Any] | list[Any]) -> Iterator[tuple[str, list[int | Colour]]]:
    seen: set[str] = set()
    if isinstance(classes, dict):
        pairs: list[tuple[Any, Any]] = list(classes.items())
    elif all(isinstance(entry, str) for entry in classes):
        pairs = [(entry, number) for number, entry in enumerate(classes)]
    else:
        pairs = [
            (entry.get("name", entry.get("title")), entry) if isinstance(entry, dict) else (None, entry)
            for entry in classes
        ]
    for name, entry in pairs:
        if not isinstance(name, str) or not name or name in seen:
            raise DatasetError(f"{path}: every class needs a unique name, got {name!r} for {entry!r}")
        seen.add(name)
        yield name, _json_values(path, name, entry)


def _json_values(path: Path, name: str, entry: Any) -> list[int | Colour]:
    if isinstance(entry, dict):
        stored: list[Any] = [entry[key] for key in ("id", "colour", "color") if key in entry]
        for key in ("ids", "colours", "colors"):
            several = entry.get(key, [])
            stored += several if isinstance(several, list) else [several]
    else:
        stored = [entry]
    values = [_parse_value(value) for value in stored]
    if not values or None in values:
        raise DatasetError(f"{path}: {name!r} must have a number 0..65535 or a colour like #6EC1E4, got {entry!r}")
    return [value for value in values if value is not None]


def _parse_void_entry(text: str) -> int | Colour | str:
    value = _parse_value(text)
    return text if value is None else value


def _parse_value(stored: Any) -> int | Colour | None:
    """Return the number or colour, or None if ``stored`` is neither."""
    if isinstance(stored, str):
        colour = re.fullmatch(r"#([0-9A-Fa-f]{6})", stored.strip())
        if colour is not None:
            return _unpack(int(colour[1], 16))
        stored = int(stored) if re.fullmatch(r"[0-9]{1,5}", stored) else None
    if isinstance(stored, int) and not isinstance(stored, bool):
        return stored if 0 <= stored < _NUMBERS else None
    if isinstance(stored, list) and len(stored) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in stored):
        return (stored[0], stored[1], stored[2])
    return None


def _pack(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _unpack(packed: int) -> Colour:
    return packed >> 16, packed >> 8 & 255, packed & 255


def _format(value: int | Colour) -> str:
    return str(value) if isinstance(value, int) else f"#{_pack(value):06X}"
