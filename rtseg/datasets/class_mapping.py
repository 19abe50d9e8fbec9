"""The table from what masks hold, numbers or colours, to classes: written in ``--data`` or in a JSON file.

    road+car+sky                            the numbers 0, 1, 2
    background:0+crack:255                  these numbers
    Building:#3C1098+Road:#6EC1E4           these colours

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

__all__ = ["Colour", "MaskTable", "distinct_colours", "parse_table"]

Colour = tuple[int, int, int]
"""RGB, 0..255."""

_SHOWN = 5
"""So many undeclared values are named in a message."""
_GOLDEN = 0.6180339887
_ADVICE = "add a class, or make it void with void= or undeclared=void"
_TOP = 1 << 16
"""Numbers of masks are below."""


class MaskTable:
    """Classes, and the stored numbers and colours that stand for them.

    A mask of numbers (grey, or with a palette) is read by number where the table knows numbers, else by colour. A mask
    of colours is read by colour; by number where all are greys and the table knows numbers alone. The number 255 is
    void unless a class has it.

    Raises:
        DatasetError: there are no classes, or more than 255, or a name or a value stands for two.
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
        """Lay the table.

        Args:
            values: of each class, in the order of their ids: numbers 0..65535 and RGB colours.
            void: values that are void; a class name takes that class out.
            undeclared_is_void: whether values that stand nowhere are void, too.
            name: what messages call the table.
            advice: what a user can do about a value that is not declared, for messages.
        """
        self.name = name
        self._advice = f": {advice}" if advice else ""
        void_values: list[int | Colour] = []
        for entry in void:
            if isinstance(entry, str):
                if entry not in values:
                    raise DatasetError(f"void={entry}: there is no such class; there are {', '.join(values)}")
                void_values += values[entry]
                values = {key: value for key, value in values.items() if key != entry}
            else:
                void_values.append(entry)
        if not 1 <= len(values) <= VOID:
            raise DatasetError(f"{name} has {len(values)} classes: there must be 1 to {VOID}")
        self.classes = tuple(values)
        self._undeclared_is_void = undeclared_is_void
        self._numbers: dict[int, int] = {}
        self._colours: dict[int, int] = {}
        for class_id, stored in [*enumerate(values.values()), (VOID, void_values)]:
            for value in stored:
                self._declare(value, class_id)
        self._knows_numbers = any(class_id != VOID for class_id in self._numbers.values())
        self._knows_colours = any(class_id != VOID for class_id in self._colours.values())
        if self._knows_numbers:
            self._numbers.setdefault(VOID, VOID)
        first = {i: colour for colour, i in reversed(self._colours.items())}
        spare = distinct_colours(len(self.classes))
        self.palette = tuple(_unpack(first[i]) if i in first else spare[i] for i in range(len(self.classes)))

    def _declare(self, value: int | Colour, class_id: int) -> None:
        known, key = (self._numbers, value) if isinstance(value, int) else (self._colours, _pack(value))
        if known.get(key, class_id) != class_id:
            names = " and ".join("void" if i == VOID else self.classes[i] for i in sorted((known[key], class_id)))
            raise DatasetError(f"{self.name}: {_shown(value)} stands for {names}")
        known[key] = class_id

    def labels(self, mask: StoredMask, path: Path) -> Labels:
        """Class ids of ``mask``, uint8 (H, W), 255 where void.

        Raises:
            DatasetError: ``mask`` holds a value that the table does not know; the text names ``path`` and the value.
        """
        if mask.colours is not None and self._knows_colours:
            labels = self._colour_lut[mask.colours]
            self._refuse_undeclared(path, labels, mask.colours, self._colours, "#{:06X}".format)
            return labels
        if mask.numbers is not None and self._knows_numbers:
            labels = _look_up(self._number_lut, mask.numbers)
            self._refuse_undeclared(path, labels, mask.numbers, self._numbers, str)
            return labels
        if mask.numbers is None:
            raise DatasetError(f"{path} holds colours, and {self.name} numbers alone: declare colours, as Road:#6EC1E4")
        if mask.palette is None:
            raise DatasetError(
                f"{path} holds 16-bit numbers, and {self.name} colours alone: declare numbers, as Road:7"
            )
        colours = mask.palette.tolist()
        by_number = np.array([self._colours.get(colour, VOID) for colour in colours], np.uint8)
        labels = _look_up(by_number, mask.numbers)
        declared = {number for number in range(256) if colours[number] in self._colours}
        self._refuse_undeclared(path, labels, mask.numbers, declared, lambda number: f"#{colours[number]:06X}")
        return labels

    def _refuse_undeclared(
        self,
        path: Path,
        labels: Labels,
        stored: NDArray[Any],
        declared: Container[int],
        show: Callable[[int], str],
    ) -> None:
        if self._undeclared_is_void:
            return
        values, counts = np.unique(stored[labels == VOID], return_counts=True)
        pixels = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
        unknown = sorted((value for value in pixels if value not in declared), key=lambda value: -pixels[value])
        if not unknown:
            return
        named = ", ".join(f"{show(value)} ({pixels[value]} pixels)" for value in unknown[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise DatasetError(f"{path} holds {named}{more}, which {self.name} does not declare{self._advice}")

    @cached_property
    def _number_lut(self) -> NDArray[np.uint8]:
        lut = np.full(_TOP, VOID, np.uint8)
        lut[list(self._numbers)] = list(self._numbers.values())
        return lut

    @cached_property
    def _colour_lut(self) -> NDArray[np.uint8]:
        """Of every colour there is, 16 MiB: one look-up a pixel, exact, and as fast as one of 256 colours."""
        lut = np.full(1 << 24, VOID, np.uint8)
        lut[list(self._colours)] = list(self._colours.values())
        return lut

    def __getstate__(self) -> dict[str, Any]:
        """Without the look-up tables: the workers of a training make their own."""
        return {key: value for key, value in self.__dict__.items() if not key.endswith("_lut")}


def _look_up(lut: NDArray[np.uint8], numbers: NDArray[Any]) -> Labels:
    if numbers.dtype == np.uint8:
        return np.asarray(cv2.LUT(numbers, lut[:256]), dtype=np.uint8)
    labels: Labels = lut[numbers]
    return labels


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """``count`` RGB colours that stay apart: hues a golden section from each other, in three strengths."""
    strengths = ((0.65, 0.95), (0.9, 0.75), (0.45, 0.6))
    colours = (colorsys.hsv_to_rgb((0.58 + i * _GOLDEN) % 1, *strengths[i % 3]) for i in range(count))
    return tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colours)


def parse_table(text: str, *, void: str = "", undeclared_is_void: bool = False) -> MaskTable:
    """The table that ``classes=`` and ``void=`` name.

    Args:
        text: a JSON file, or classes joined by ``+``.
        void: numbers, colours and class names joined by ``+``.
        undeclared_is_void: see ``MaskTable``.

    Raises:
        DatasetError: the file cannot be read, or an entry is none.
    """
    extra = [_void_entry(entry) for entry in void.split("+") if entry]
    if not text.lower().endswith(".json"):
        values = _inline(text)
        return MaskTable(values, void=extra, undeclared_is_void=undeclared_is_void, advice=_ADVICE)
    path = Path(text).expanduser()
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"cannot read the table of classes {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is no JSON file: {' '.join(str(error).split())}") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("classes"), dict | list):
        raise DatasetError(f'{path} must hold {{"classes": {{"Road": "#6EC1E4", "Car": 7}}}}')
    stored_void = facts.get("void", [])
    if not isinstance(stored_void, list):
        raise DatasetError(f'{path}: "void" must be a list of numbers and colours, got {stored_void!r}')
    values = dict(_entries(path, facts["classes"]))
    voids = [value for entry in stored_void for value in _values(path, "void", entry)]
    return MaskTable(
        values,
        void=[*voids, *extra],
        undeclared_is_void=undeclared_is_void,
        name=path.name,
        advice=_ADVICE,
    )


def _inline(text: str) -> dict[str, list[int | Colour]]:
    values: dict[str, list[int | Colour]] = {}
    for place, entry in enumerate(text.split("+")):
        name, colon, stored = entry.rpartition(":")
        value = _value(stored) if colon else place
        if not colon:
            name = entry
        if not name or value is None or name in values:
            raise DatasetError(
                f"classes={text}: {entry!r} must be a new name, alone or with a number or colour, as road:7 or "
                "road:#6EC1E4; or give a .json file"
            )
        values[name] = [value]
    return values


def _entries(path: Path, classes: dict[str, Any] | list[Any]) -> Iterator[tuple[str, list[int | Colour]]]:
    seen: set[str] = set()
    if isinstance(classes, dict):
        pairs: list[tuple[Any, Any]] = list(classes.items())
    elif all(isinstance(entry, str) for entry in classes):
        pairs = [(entry, place) for place, entry in enumerate(classes)]
    else:
        pairs = [
            (entry.get("name", entry.get("title")), entry) if isinstance(entry, dict) else (None, entry)
            for entry in classes
        ]
    for name, entry in pairs:
        if not isinstance(name, str) or not name or name in seen:
            raise DatasetError(f"{path}: every class wants a name of its own, got {name!r} for {entry!r}")
        seen.add(name)
        yield name, _values(path, name, entry)


def _values(path: Path, name: str, entry: Any) -> list[int | Colour]:
    if isinstance(entry, dict):
        found: list[Any] = []
        for key in ("id", "ids", "colour", "color", "colours", "colors"):
            stored = entry.get(key, [])
            found += stored if key.endswith("s") and isinstance(stored, list) else [stored] if key in entry else []
    else:
        found = [entry]
    values = [_value(stored) for stored in found]
    if not values or None in values:
        raise DatasetError(f"{path}: {name!r} must have a number 0..65535 or a colour as #6EC1E4, got {entry!r}")
    return [value for value in values if value is not None]


def _void_entry(text: str) -> int | Colour | str:
    value = _value(text)
    return text if value is None else value


def _value(stored: Any) -> int | Colour | None:
    """A number, a colour, or None for what is neither."""
    if isinstance(stored, str):
        colour = re.fullmatch(r"#([0-9A-Fa-f]{6})", stored.strip())
        if colour is not None:
            return _unpack(int(colour[1], 16))
        stored = int(stored) if re.fullmatch(r"[0-9]{1,5}", stored) else None
    if isinstance(stored, int) and not isinstance(stored, bool):
        return stored if 0 <= stored < _TOP else None
    if isinstance(stored, list) and len(stored) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in stored):
        return (stored[0], stored[1], stored[2])
    return None


def _pack(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _unpack(packed: int) -> Colour:
    return packed >> 16, packed >> 8 & 255, packed & 255


def _shown(value: int | Colour) -> str:
    return str(value) if isinstance(value, int) else f"#{_pack(value):06X}"
