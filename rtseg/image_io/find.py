"""Find image files by folder, glob, numbered sequence, list file or URL."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from rtseg.errors import SourceError, SourceNotFound
from rtseg.image_io.notes import ImageNotes
from rtseg.system.file_names import check_name, existing_path, unicode_forms
from rtseg.system.read_file import read_lines
from rtseg.system.redact import redact, split_url
from rtseg.system.remote import is_url, open_url

__all__ = ["IMAGE_SUFFIXES", "find_files", "find_images", "is_list", "is_numbered", "list_folder", "natural_order"]

IMAGE_SUFFIXES = frozenset(
    (
        *(".bmp", ".dib", ".jfi", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
        *(".tif", ".tiff", ".webp"),
    )
)
"""Suffixes of image files, in lower case."""
_COMPANION_SUFFIXES = frozenset(
    (".cfg", ".csv", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".pdf", ".py", ".sh", ".tsv", ".toml", ".txt")
) | {".xml", ".xmp", ".yaml", ".yml"}
"""Suffixes of files that often accompany images and are no images: they are skipped silently."""
_COMPANION_NAMES = frozenset(("desktop.ini", "license", "licence", "readme", "thumbs.db", "ehthumbs.db"))
_NUMBER = re.compile(r"(%(?:0\d+)?d)")
"""The placeholder in a numbered sequence: ``%d`` or ``%05d``."""
ImageLocation = Path | tuple[Any, str]
"""A path, or an fsspec file system and a path in it."""


def is_list(where: str | Path) -> bool:
    """Whether ``where`` names a text file that lists images. A folder of such a name is a folder."""
    if Path(where).suffix.lower() == ".txt":
        return not Path(where).is_dir()
    return isinstance(where, str) and where.startswith("@") and not Path(where).exists()


def is_numbered(where: str | Path) -> bool:
    """Whether the file name in ``where`` contains a placeholder for a number, as in ``frame_%05d.png``."""
    return len(_NUMBER.findall(str(where).rpartition("/")[2])) == 1


def find_files(where: str | Path, notes: ImageNotes | None = None) -> list[ImageLocation]:
    """Find the images at ``where``; see ``open_source``. A list keeps its order, everything else is in natural order.

    Args:
        where: see ``open_source``.
        notes: gets the names of the files that are skipped.

    Raises:
        SourceNotFound: there is no image.
        OptionError: the scheme of a URL is unknown.
        MissingExtra: a package that reads it is not installed.
        SourceError: the folder cannot be read.
    """
    check_name(where)
    if is_list(where):
        return _read_list(Path(str(where).removeprefix("@")))
    if is_url(str(where)) and not isinstance(where, Path):
        return list(_find_remote(str(where), notes))
    return list(find_images(where, notes))


def find_images(where: str | Path, notes: ImageNotes | None = None) -> list[Path]:
    """Find the local images at ``where``, in natural order.

    Args:
        where: a folder (without its subfolders), a glob, a numbered sequence, or an image.
        notes: gets the names of the files of a folder or glob that are skipped.

    Raises:
        SourceNotFound: there is no image.
        SourceError: the folder cannot be read.
    """
    check_name(where)
    path = existing_path(Path(where))
    try:
        if path.is_dir():
            paths = list_folder(path, notes)
        elif path.exists():
            paths = [path]
        elif is_numbered(where):
            paths = _find_numbered(path)
        else:
            forms = (glob(form, recursive=True) for form in unicode_forms(str(where)))  # noqa: PTH207 (may be absolute)
            paths = [match for match in map(Path, next(filter(None, forms), [])) if not match.is_dir()]
    except OSError as error:
        raise SourceError(f"{where} cannot be read ({error.strerror}): check the path") from error
    images = [each for each in paths if _is_image(each.name) and not _is_broken_link(each)]
    _note_skipped({each.name: each.exists() for each in paths if each not in images}, notes)
    if not images:
        raise _no_image(f"the folder {where} contains" if path.is_dir() else f"{where} matches")
    return sorted(images, key=natural_order)


def list_folder(folder: Path, notes: ImageNotes | None = None) -> list[Path]:
    """List the images in ``folder``, without its subfolders, in natural order.

    Args:
        folder: the folder.
        notes: gets the names of the files that are skipped.

    Raises:
        OSError: the folder does not exist or cannot be read.
    """
    # is_file of a path would cost one network round trip per image on a mount.
    with os.scandir(folder) as entries:
        found = [(entry, _is_file(entry)) for entry in entries]
    names = {entry.name: is_file for entry, is_file in found if is_file or _is_broken_link(Path(entry))}
    images = {name for name, is_file in names.items() if is_file and _is_image(name)}
    _note_skipped({name: is_file for name, is_file in names.items() if name not in images}, notes)
    return sorted((folder / name for name in images), key=natural_order)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def _is_broken_link(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _note_skipped(names: Mapping[str, bool], notes: ImageNotes | None) -> None:
    """Note skipped files, without hidden files and those that are obviously no images.

    Args:
        names: the names; False for a link without a target.
        notes: gets them.
    """
    if notes is None:
        return
    for name in sorted(names, key=natural_order):
        suffix = PurePosixPath(name).suffix.lower()
        if not (name.startswith(".") or suffix in _COMPANION_SUFFIXES or name.lower() in _COMPANION_NAMES):
            notes.add(name, "skipped" if names[name] else "broken")


def _no_image(clause: str) -> SourceNotFound:
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    return SourceNotFound(f"{clause} no image: give a path with files that end in {suffixes}")


def _find_numbered(pattern: Path) -> list[Path]:
    """Find the files that match a pattern such as ``frame_%05d.png``; numbers may be missing."""
    names = _match_numbered(pattern.name, (each.name for each in pattern.parent.iterdir()))
    return [pattern.parent / name for name in names]


def _match_numbered(pattern: str, names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that printf would produce from ``pattern`` and a number."""
    before, number, after = _NUMBER.split(unicodedata.normalize("NFC", pattern), maxsplit=1)
    regex = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    matches = [(regex.fullmatch(unicodedata.normalize("NFC", name)), name) for name in names]
    return [name for match, name in matches if match and number % int(match[1]) == match[1]]


def _read_list(path: Path) -> list[ImageLocation]:
    """Read paths (relative to the list) and URLs, one per line. Blank lines and ``#`` comments are skipped."""
    try:
        lines = read_lines(path)
    except OSError as error:
        raise SourceNotFound(f"the list {path} cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not a list of images: write one path per line, as text") from error
    locations: list[ImageLocation] = []
    for line in lines:
        if is_url(line):
            locations.append(open_url(line))
        elif line and not line.startswith("#"):
            locations.append(existing_path(path.parent / line))
    if not locations:
        raise SourceNotFound(f"the list {path} names no image: write one path per line")
    return locations


def _find_remote(url: str, notes: ImageNotes | None) -> list[tuple[Any, str]]:
    system, path = open_url(url)
    if _is_web_image(url):
        return [(system, path)]  # a camera may answer only the request for the image itself
    try:
        if is_numbered(path):
            folder, _, pattern = path.rpartition("/")
            names = (PurePosixPath(each).name for each in system.ls(folder, detail=False))
            paths = [f"{folder}/{name}" if folder else name for name in _match_numbered(pattern, names)]
        elif has_magic(path) and not system.exists(path):
            paths = list(system.glob(path))
        elif path == "" or system.isdir(path):
            paths = list(system.ls(path, detail=False))
        else:
            paths = [path] if system.exists(path) else []
    except Exception as error:  # every file system raises its own errors
        raise SourceError(f"{redact(url)} cannot be read: {redact(error)}") from error
    images = [each for each in paths if _is_image(PurePosixPath(each).name)]
    skipped = [each for each in paths if each not in images and not system.isdir(each)]
    _note_skipped({PurePosixPath(each).name: True for each in skipped}, notes)
    if not images:
        raise _no_image(f"{redact(url)} contains")
    return [(system, each) for each in sorted(images, key=natural_order)]


def _is_web_image(url: str) -> bool:
    """Whether ``url`` is the http address of one image. ``?`` starts its query and is no wildcard."""
    if not url.lower().startswith(("http://", "https://")):
        return False
    name = PurePosixPath(split_url(url).path).name
    return _is_image(name) and not ("*" in name or is_numbered(name))


def natural_order(path: Path | str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key: numbers by value, letters regardless of case, and the plain text where both are equal."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], str(path)
