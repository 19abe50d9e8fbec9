"""Find the images that a path, a glob, a list, a numbered sequence or a URL names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from rtseg.errors import MissingExtra, OptionError, SourceError, SourceNotFound
from rtseg.system.redact import redact

__all__ = ["IMAGE_SUFFIXES", "find_files", "find_images", "is_list", "is_numbered", "natural_order"]

IMAGE_SUFFIXES = frozenset(
    {
        ".bmp",
        ".dib",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""What ends the name of an image, in lower case."""
_NUMBER = re.compile(r"%(?:0\d+)?d")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
ImageLocation = Path | tuple[Any, str]
"""A path, or a file system of fsspec and a path in it."""


def is_list(where: str | Path) -> bool:
    """Whether ``where`` names a text file with the paths of images."""
    return Path(where).suffix.lower() == ".txt" or (isinstance(where, str) and where.startswith("@"))


def is_numbered(where: str | Path) -> bool:
    """Whether the name at the end of ``where`` has the place of a number in it, as ``frame_%05d.png``."""
    return len(_NUMBER.findall(str(where).rpartition("/")[2])) == 1


def find_files(where: str | Path) -> list[ImageLocation]:
    """The images at ``where``: see ``open_source``. Lists keep their order, all else is in natural order.

    Raises:
        SourceNotFound: no image lies there.
        OptionError: a scheme is not known.
        MissingExtra: a package that reads it is not installed.
        SourceError: it cannot be looked into.
    """
    if is_list(where):
        return _listed(Path(str(where).removeprefix("@")))
    if _URL.match(str(where)) and not isinstance(where, Path):
        return list(_remote(str(where)))
    return list(find_images(where))


def find_images(where: str | Path) -> list[Path]:
    """The images at ``where``, in natural order.

    Args:
        where: a folder (its subfolders are not searched), a glob, a numbered sequence, or an image.

    Raises:
        SourceNotFound: no image lies there.
        SourceError: it cannot be looked into.
    """
    path = Path(where)
    try:
        if path.is_dir():
            # Asking for the kind of each by its path would cost a mount one round trip an image.
            with os.scandir(path) as entries:
                found = [Path(entry.path) for entry in entries if entry.is_file()]
        elif path.exists():
            found = [path]
        elif is_numbered(where):
            found = _numbered(path)
        else:
            matches = [Path(match) for match in glob(str(where), recursive=True)]  # noqa: PTH207 (may be absolute)
            found = [match for match in matches if _is_image(match.name) and match.is_file()]
    except OSError as error:
        raise SourceError(f"{where} cannot be looked into ({error.strerror}): check the path") from error
    images = [one for one in found if _is_image(one.name)]
    if not images:
        raise _nothing(f"the folder {where} holds" if path.is_dir() else f"{where} matches")
    return sorted(images, key=natural_order)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def _nothing(what: str) -> SourceNotFound:
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    return SourceNotFound(f"{what} no image: give one with files that end in {suffixes}")


def _numbered(pattern: Path) -> list[Path]:
    """The files beside ``pattern`` whose name it makes of some number; numbers may be missing."""
    names = numbered_names(pattern.name, (each.name for each in pattern.parent.iterdir()))
    return [pattern.parent / name for name in names]


def numbered_names(pattern: str, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that printf makes of ``pattern``, with its one ``%d`` or ``%05d``, and a number."""
    before, number, after = re.split(r"(%(?:0\d+)?d)", pattern, maxsplit=1)
    shape = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    found = [(shape.fullmatch(name), name) for name in names]
    return [name for match, name in found if match and number % int(match[1]) == match[1]]


def _listed(path: Path) -> list[ImageLocation]:
    """The paths and URLs in a text file, one a line, from its folder on; blank lines and those after ``#`` are left."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise SourceNotFound(f"the list {path} cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no list of images: write one path a line, in UTF-8") from error
    found: list[ImageLocation] = []
    for line in lines:
        if _URL.match(line):
            found.append(_system_of(line))
        elif line and not line.startswith("#"):
            found.append(path.parent / line)
    if not found:
        raise SourceNotFound(f"the list {path} names no image: write one path a line")
    return found


def _system_of(url: str) -> tuple[Any, str]:
    """The file system of fsspec for ``url``, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtra.of(f"reading {redact(url)}", "fsspec", "remote") from error
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise MissingExtra(f"{redact(url)} needs a package more: {error}") from error
    except ValueError as error:
        raise OptionError(f"{redact(url)} cannot be read: {redact(error)}") from error
    except OSError as error:
        raise SourceNotFound(f"{redact(url)} cannot be opened ({redact(error.strerror or error)})") from error
    return system, str(path)


def _remote(url: str) -> list[tuple[Any, str]]:
    system, path = _system_of(url)
    try:
        if is_numbered(path):
            folder, _, pattern = path.rpartition("/")
            names = (PurePosixPath(each).name for each in system.ls(folder, detail=False))
            found = [f"{folder}/{name}" if folder else name for name in numbered_names(pattern, names)]
        elif has_magic(path):
            found = list(system.glob(path))
        elif path == "" or system.isdir(path):
            found = list(system.ls(path, detail=False))
        else:
            found = [path] if system.exists(path) else []
    except Exception as error:  # each file system has errors of its own
        raise SourceError(f"{redact(url)} cannot be looked into: {redact(error)}") from error
    images = [each for each in found if _is_image(PurePosixPath(each).name)]
    if not images:
        raise _nothing(f"{redact(url)} holds")
    return [(system, each) for each in sorted(images, key=natural_order)]


def natural_order(path: Path | str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorting key: numbers by value, letters without case; the plain text decides between equals."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], str(path)
