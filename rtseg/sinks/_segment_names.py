"""Names of the files of a recording that consists of several."""

from __future__ import annotations

import itertools
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from rtseg.errors import OptionError
from rtseg.system.atomic_files import part_path

__all__ = ["SegmentNames"]

_NUMBER: Final = re.compile(r"%0?(\d{1,2})d")
_DIGITS: Final = 5
_TIME: Final = "%Y%m%d-%H%M%S"


class SegmentNames:
    """The names, one after the other. No name is used twice, and none that there is already.

    ``%05d`` in the name of ``path`` stands for the number of the file, which goes on from the largest one in the
    folder; other parts with ``%`` are those of ``strftime``, for the local time of the first frame. A name without
    either gets the time or the number before its suffix.

    Args:
        path: names the folder and the files.
        by_time: which of the two a name without either gets.
        plain: the first file is called ``path`` itself, and later ones get a number from 2 after it.

    Raises:
        OptionError: the name would contain a slash.
    """

    def __init__(self, path: Path, *, by_time: bool, plain: bool = False) -> None:
        self._folder = path.parent
        self._suffix = path.suffix
        stem = path.stem
        self._plain = plain
        if not plain and "%" not in stem:
            stem = f"{stem.replace('%', '%%')}-{_TIME if by_time else f'%0{_DIGITS}d'}"
        self._stem = stem
        self._numbered = not plain and _NUMBER.search(stem) is not None
        self._number = 0
        if not plain and "/" in self._stem_at(0, datetime.now().astimezone()):
            raise OptionError(f"the name {path.name} makes folders, because %D is a date with slashes: use %Y-%m-%d")

    def next(self, began: datetime) -> Path:
        """The name of a file that begins at a local time."""
        if self._plain and not self._number:
            self._number = 1
            return self._folder / f"{self._stem}{self._suffix}"
        if self._numbered:
            self._number = max(self._number, self._largest_number()) + 1
        stem = self._stem if self._plain else self._stem_at(self._number, began)
        for number in itertools.count(2 if self._plain else 1):
            path = self._folder / f"{stem}{f'-{number}' if number > 1 else ''}{self._suffix}"
            if not os.path.lexists(path) and not os.path.lexists(part_path(path)):
                return path
        raise AssertionError("unreachable: the numbers do not end")

    def _stem_at(self, number: int, began: datetime) -> str:
        numbered = _NUMBER.sub(lambda match: f"{number:0{match[1]}d}", self._stem)
        return began.strftime(numbered)

    def _largest_number(self) -> int:
        """Of the files in the folder, finished or not."""
        before, after = _NUMBER.split(self._stem)[0], _NUMBER.split(self._stem)[-1]
        if "%" in before + after:
            return 0
        pattern = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}(?:\.part)?{re.escape(self._suffix)}")
        found = (pattern.fullmatch(path.name) for path in self._folder.iterdir())
        return max((int(match[1]) for match in found if match), default=0)
