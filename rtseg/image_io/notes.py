"""Facts about image files that a user should know although the files can be used, collected over a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

__all__ = ["ImageNotes", "NoteImage", "name_some"]

NoteImage = Callable[[str, int], None]
"""Called with the kind of a note, a key of ``_SENTENCES``, and its number."""

_SENTENCES: Final = {
    "low": "{names}: values up to {number} of 65535, so it looks dark: if it has fewer than 16 bits, use {bits}",
    "pages": "{names}: {number} images in one file, only the first is used",
    "skipped": "skipped {count} files ({names}): not a supported format",
    "broken": "skipped {count} links ({names}): their targets do not exist",
    "orientation": "{names}: the EXIF orientation of image and mask differ: save both upright and without this tag",
}
_MAX_NAMES = 3


class ImageNotes:
    """Notes by kind and file. Threads may add notes at the same time."""

    def __init__(self, bits_option: str = "--bits ") -> None:
        """Begin without notes.

        Args:
            bits_option: how the user gives the significant bits of images, without the number.
        """
        self._bits_option = bits_option
        self._numbers: dict[str, dict[str, int]] = {kind: {} for kind in _SENTENCES}

    def add(self, name: str, kind: str, number: int = 1) -> None:
        """Add a note about the file ``name``."""
        self._numbers[kind][name] = number

    def for_file(self, name: str) -> NoteImage:
        """Return a function that adds notes about the file ``name``."""
        return partial(self.add, name)

    @property
    def lines(self) -> list[str]:
        """One sentence for each kind of note, with the first files."""
        return [
            sentence.format(
                names=name_some(list(numbers)),
                count=len(numbers),
                number=(highest := max(numbers.values())),
                bits=f"{self._bits_option}{max(8, highest.bit_length())}",
            )
            for kind, sentence in _SENTENCES.items()
            if (numbers := dict(self._numbers[kind]))
        ]


def name_some(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
