"""Finds video files by folder, glob or list."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path

from rtseg.batch.remote_files import find_urls
from rtseg.errors import SourceError, SourceNotFound
from rtseg.image_io.find import natural_order
from rtseg.system.file_names import check_name, existing_path, unicode_forms
from rtseg.system.read_file import read_lines
from rtseg.system.remote import is_url

__all__ = ["VIDEO_SUFFIXES", "find_videos"]

VIDEO_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts")
) | {".webm", ".wmv"}
"""Suffixes of the files that are taken from a folder, in lower case."""


def find_videos(inputs: Sequence[str]) -> list[str]:
    """Find the videos that ``inputs`` name: absolute paths and URLs in natural order, each file once.

    Args:
        inputs: files, folders (with their subfolders), globs, lists of files (``@FILE`` or ``FILE.txt``), and URLs.

    Raises:
        SourceNotFound: one of them names no video.
        SourceError: a folder or list cannot be read.
    """
    found: dict[str, str] = {}
    for each in inputs:
        for path in find_urls(each) if is_url(each) else _find(each):
            if isinstance(path, str):
                found.setdefault(path, path)
                continue
            # Without "..", but links stay: the user sees the name that was given.
            absolute = os.path.abspath(path)  # noqa: PTH100
            found.setdefault(os.path.realpath(path), absolute)
    return sorted(found.values(), key=natural_order)


def _find(where: str) -> Iterable[Path | str]:
    check_name(where)
    path = existing_path(Path(where))
    try:
        if path.is_dir():
            return _in_folder(path)
        if path.exists() and path.suffix.lower() != ".txt":
            return [path]
        if where.startswith("@") or path.suffix.lower() == ".txt":
            return _listed(Path(where.removeprefix("@")))
        if has_magic(where):
            forms = (glob(form, recursive=True) for form in unicode_forms(where))  # noqa: PTH207 (may be absolute)
            matches = [path for path in map(Path, next(filter(None, forms), [])) if not path.is_dir()]
            if not matches:
                raise SourceNotFound(
                    f"{where} matches no file: check the pattern; quote it, so that the shell keeps **"
                )
            return matches
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{where} cannot be read ({error.strerror}): check the path") from error
    raise SourceNotFound(f"there is no file or folder {where}: check the path")


def _in_folder(folder: Path) -> list[Path]:
    """The videos in a folder and its subfolders, by their suffixes."""
    found = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, onerror=_raise)
        for name in names
        if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")
    ]
    if not found:
        suffixes = " ".join(sorted(VIDEO_SUFFIXES))
        raise SourceNotFound(f"the folder {folder} contains no video: give one with files that end in {suffixes}")
    return found


def _raise(error: OSError) -> None:
    raise error


def _listed(path: Path) -> list[Path | str]:
    """The paths in a list, one on each line; relative ones start at the list. ``#`` begins a comment."""
    try:
        lines = [line for line in read_lines(path) if line and not line.startswith("#")]
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not a list of videos: write one path per line, as text") from error
    if not lines:
        raise SourceNotFound(f"the list {path} names no video: write one path per line")
    return [line if is_url(line) else existing_path(path.parent / line) for line in lines]
