"""Parser for the text after ``KIND:`` in ``--data``: positional fields, then options, separated by commas.

    IMAGES,MASKS,classes=road+car,val=0.2

A field that begins with lower-case letters and ``=`` is an option; write a path of that form as ``./a=b``. Put a field
that contains a comma in double quotes: ``"/data/a,b",/masks``. A leading ``~`` in a path is the home folder.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import OptionError

__all__ = ["SpecString", "parse_spec_string"]


@dataclass(frozen=True, slots=True)
class SpecString:
    """The parsed fields and options of one ``--data``."""

    usage: str
    """The expected form, for messages."""
    fields: tuple[str, ...]
    """The positional fields."""
    options: dict[str, str]

    def error(self, reason: str) -> OptionError:
        """Return an error with ``reason`` and the expected form."""
        return OptionError(f"--data: {reason}; write {self.usage}")

    def path(self, index: int) -> Path:
        """Return the positional field ``index`` as a path, with ``~`` expanded."""
        return self._expand(self.fields[index])

    def option_path(self, name: str) -> Path | None:
        """Return the option ``name`` as a path, with ``~`` expanded; None if it is not given."""
        return self._expand(self.options[name]) if name in self.options else None

    def integer(self, name: str, default: int, *, minimum: int) -> int:
        """Return the option ``name`` as an integer.

        Raises:
            OptionError: it is not an integer, or is less than ``minimum``.
        """
        text = self.options.get(name, str(default))
        if not (text.isascii() and text.isdecimal() and len(text) < 10) or int(text) < minimum:
            raise self.error(f"{name} must be an integer of at least {minimum}, got {text!r}")
        return int(text)

    def bits(self) -> int | None:
        """Return the option ``bits``; None if it is not given.

        Raises:
            OptionError: it is not 8 to 16.
        """
        bits = self.integer("bits", 16, minimum=8)
        if bits > 16:
            raise self.error(f"bits must be in 8 .. 16, got {bits}")
        return bits if "bits" in self.options else None

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return the option ``name``; the first of ``choices`` if it is not given.

        Raises:
            OptionError: it is not one of ``choices``.
        """
        text = self.options.get(name, choices[0])
        if text not in choices:
            raise self.error(f"{name} must be {' or '.join(choices)}, got {text!r}")
        return text

    def _expand(self, text: str) -> Path:
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise self.error(f"the home folder in {text!r} is not known") from error


def parse_spec_string(kind: str, text: str, *, fields: Sequence[str], options: Sequence[str] = ()) -> SpecString:
    """Parse the text after ``KIND:``.

    Args:
        kind: the ``KIND``.
        text: the text after the colon.
        fields: names of the required positional fields, in order, e.g. ``IMAGES``.
        options: names of the allowed options.

    Raises:
        OptionError: a field is missing or there are too many, an option is unknown, empty or repeated, or a quote is
            not closed.
    """
    usage = f"{kind}:{','.join(fields)}{''.join(f'[,{name}=..]' for name in options)}"
    empty = SpecString(usage, (), {})
    try:
        parts = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise empty.error(f"{text!r} cannot be read ({error})") from error
    given_fields: list[str] = []
    given_options: dict[str, str] = {}
    for part in parts:
        option = re.match(r"([a-z_]+)=", part)
        if option is None:
            given_fields.append(part)
            continue
        name, value = option[1], part[option.end() :]
        if name not in options:
            raise empty.error(f"there is no option {name!r} (write a path of this form as ./{part})")
        if name in given_options:
            raise empty.error(f"{name} is given twice")
        if not value:
            raise empty.error(f"{name} has no value")
        given_options[name] = value
    if len(given_fields) != len(fields) or not all(given_fields):
        raise empty.error(f"{' and '.join(fields)} must be given, got {', '.join(map(repr, given_fields)) or 'none'}")
    return SpecString(usage, tuple(given_fields), given_options)
