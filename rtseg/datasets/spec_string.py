"""The grammar of what follows ``KIND:`` in ``--data``: places, then options, with commas between them.

    IMAGES,MASKS,classes=road+car,val=0.2

A field is an option where it begins with a word of small letters and ``=``; a path that looks so is written ``./a=b``.
A field that holds a comma is put in double quotes, whole: ``"/data/a,b",/masks``. A ``~`` at the front of a path is the
home folder.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import OptionError

__all__ = ["Arguments", "parse_arguments"]


@dataclass(frozen=True, slots=True)
class Arguments:
    """The places and options of one ``--data``."""

    usage: str
    """How it is to be written, for messages."""
    places: tuple[str, ...]
    options: dict[str, str]

    def wrong(self, why: str) -> OptionError:
        """The error that says ``why`` and how it is to be written."""
        return OptionError(f"--data: {why}; write {self.usage}")

    def path(self, index: int) -> Path:
        """The place ``index`` as a path, ``~`` resolved."""
        return self._expand(self.places[index])

    def option_path(self, name: str) -> Path | None:
        """The option ``name`` as a path; None where it is not given."""
        return self._expand(self.options[name]) if name in self.options else None

    def whole(self, name: str, default: int, *, least: int) -> int:
        """The option ``name`` as a whole number of at least ``least``.

        Raises:
            OptionError: it is none.
        """
        text = self.options.get(name, str(default))
        if not (text.isascii() and text.isdecimal() and len(text) < 10) or int(text) < least:
            raise self.wrong(f"{name} must be a whole number of at least {least}, got {text!r}")
        return int(text)

    def choice(self, name: str, known: Sequence[str]) -> str:
        """The option ``name``, one of ``known``; the first of them where it is not given.

        Raises:
            OptionError: it is another.
        """
        text = self.options.get(name, known[0])
        if text not in known:
            raise self.wrong(f"{name} must be {' or '.join(known)}, got {text!r}")
        return text

    def _expand(self, text: str) -> Path:
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise self.wrong(f"the home folder in {text!r} is not known") from error


def parse_arguments(kind: str, text: str, *, places: Sequence[str], options: Sequence[str] = ()) -> Arguments:
    """Take the argument of a kind of data apart.

    Args:
        kind: as in ``KIND:PATH``.
        text: what stands after the colon.
        places: names of the places that must be given, in order, e.g. ``IMAGES``.
        options: names of the options that may follow, in any order.

    Raises:
        OptionError: a place is missing or one too many, an option is unknown, empty or repeated, or a quote is open.
    """
    shown = "".join(f"[,{name}=..]" for name in options)
    usage = f"{kind}:{','.join(places)}{shown}"
    empty = Arguments(usage, (), {})
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise empty.wrong(f"{text!r} cannot be read ({error})") from error
    found: dict[str, str] = {}
    given: list[str] = []
    for field in fields:
        option = re.match(r"([a-z_]+)=", field)
        if option is None:
            given.append(field)
            continue
        name, value = option[1], field[option.end() :]
        if name not in options:
            raise empty.wrong(f"there is no option {name!r} (a path that looks like one is written ./{field})")
        if name in found:
            raise empty.wrong(f"{name} is given twice")
        if not value:
            raise empty.wrong(f"{name} has no value")
        found[name] = value
    if len(given) != len(places) or not all(given):
        raise empty.wrong(f"{' and '.join(places)} must be given, got {', '.join(map(repr, given)) or 'none'}")
    return Arguments(usage, tuple(given), found)
