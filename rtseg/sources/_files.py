"""Picture files: found in folders, globs, lists and numbered sequences, here or behind a URL, and read as bytes."""

from __future__ import annotations

import os
import re
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from rtseg.errors import MissingExtra, OptionError, SourceError, SourceNotFound
from rtseg.pictures import natural_order
from rtseg.redact import redact
from rtseg.sources import PICTURE_SUFFIXES, is_list, is_numbered
from rtseg.sources._pace import Pace
from rtseg.sources._prefetch import Slot

__all__ = ["Footprint", "LocalFile", "PictureFile", "RemoteFile", "find_files", "find_pictures"]

_CHUNK = 16 * 2**20
"""Bytes of one read call: less than a slow mount gives within its time-out, and all of most pictures."""
_LONG = 4
"""A pass that has read more than 1 / 4 of the free memory is long: what it leaves behind would drive out all else."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_STAMPS = ("ETag", "etag", "Content-MD5", "md5Hash", "CRC", "LastModified", "last_modified", "Last-Modified", "mtime")
"""What file systems of fsspec call the version of a file."""


class Footprint:
    """How much of the machine's page cache one pass has filled. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read = 0
        self._most = _free_memory() // _LONG

    def add(self, size: int) -> None:
        """Count a file of ``size`` bytes."""
        with self._lock:
            self._read += size

    @property
    def long(self) -> bool:
        """Whether files are to be given back to the kernel once they are read."""
        return self._read > self._most


def _free_memory() -> int:
    """Bytes, as the kernel estimates them."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 2**32


class PictureFile(ABC):
    """One file that a picture is expected in. ``announce``, ``read`` and ``discard`` by one thread at a time."""

    name: str
    """Short, without folders: as results and reports call it."""

    @abstractmethod
    def announce(self) -> None:
        """Tell the kernel that the file is read soon.

        Raises:
            OSError: it cannot be opened.
        """

    @abstractmethod
    def stamp(self) -> str | None:
        """Place and version of the file: another text once it has changed; None where that cannot be told.

        Raises:
            OSError: it cannot be looked up.
        """

    @abstractmethod
    def read(self, slot: Slot) -> bytes:
        """All of it.

        Raises:
            OSError: it cannot be read, or is larger than a picture may be.
        """

    @abstractmethod
    def discard(self) -> None:
        """Let go of it."""


class LocalFile(PictureFile):
    """A file of this machine or of a mount.

    Args:
        path: where.
        pace: told how long the first byte took.
        footprint: of the pass; once that is long, files that only this pass brought into memory are given back.
        limit: bytes; what is larger is no picture.
    """

    def __init__(self, path: Path, pace: Pace, footprint: Footprint, limit: int) -> None:
        self.name = path.name
        self._path = path
        self._pace = pace
        self._footprint = footprint
        self._limit = limit
        self._fd = -1
        self._was_in_memory = self._was_read = False

    def announce(self) -> None:
        """See ``PictureFile``."""
        fd = self._open()
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)

    def _open(self) -> int:
        if self._fd < 0:
            # Without O_NONBLOCK a pipe would hold the thread until somebody writes.
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise OSError(0, "no regular file")
            self._was_in_memory = _in_memory(self._fd)
        return self._fd

    def stamp(self) -> str | None:
        """See ``PictureFile``."""
        facts = os.fstat(self._open())
        return f"{os.path.abspath(self._path)}\0{facts.st_size}\0{facts.st_mtime_ns}"  # noqa: PTH100 - links stay

    def read(self, slot: Slot) -> bytes:
        """See ``PictureFile``."""
        fd = self._open()
        size = os.fstat(fd).st_size
        if size > self._limit:
            raise OSError(0, f"{size} bytes, more than a picture can have")
        if self._pace.measures:
            begun_s = time.monotonic()
            os.pread(fd, 1, 0)
            self._pace.first_byte(time.monotonic() - begun_s, from_memory=self._was_in_memory)
        parts: list[bytes] = []
        rest = size
        while rest:  # a file that grows meanwhile is read as it was
            part = os.read(fd, min(rest, _CHUNK))
            if not part:
                break
            parts.append(part)
            rest -= len(part)
            slot.alive()
        self._footprint.add(size)
        self._was_read = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def discard(self) -> None:
        """See ``PictureFile``."""
        if self._fd < 0:
            return
        if self._was_read and self._footprint.long and not self._was_in_memory:
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(self._fd)
        self._fd = -1


def _in_memory(fd: int) -> bool:
    """Whether the first byte of a file lies in the page cache; no, where the file system cannot tell."""
    try:
        return bool(os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT))
    except OSError:
        return False


class RemoteFile(PictureFile):
    """A file that fsspec reads. It must come whole within the time-out."""

    def __init__(self, system: Any, path: str, limit: int) -> None:
        self.name = PurePosixPath(path).name
        self._system = system
        self._path = path
        self._limit = limit

    def announce(self) -> None:
        """See ``PictureFile``; there is nobody to tell."""

    def stamp(self) -> str | None:
        """See ``PictureFile``."""
        facts: dict[str, Any] = self._system.info(self._path)
        versions = [f"{key}={facts[key]}" for key in _STAMPS if facts.get(key)]
        if not versions:
            return None
        return "\0".join([self._system.unstrip_protocol(self._path), str(facts.get("size")), *versions])

    def read(self, slot: Slot) -> bytes:
        """See ``PictureFile``."""
        size = self._system.info(self._path).get("size") or 0
        if size > self._limit:
            raise OSError(0, f"{size} bytes, more than a picture can have")
        data: bytes = self._system.cat_file(self._path)
        return data

    def discard(self) -> None:
        """See ``PictureFile``."""


Found = Path | tuple[Any, str]
"""A path, or a file system of fsspec and a path in it."""


def find_files(where: str | Path) -> list[Found]:
    """The pictures at ``where``: see ``open_source``. Lists keep their order, all else is in natural order.

    Raises:
        SourceNotFound: no picture lies there.
        OptionError: a scheme is not known.
        MissingExtra: a package that reads it is not installed.
        SourceError: it cannot be looked into.
    """
    if is_list(where):
        return _listed(Path(str(where).removeprefix("@")))
    if _URL.match(str(where)) and not isinstance(where, Path):
        return list(_remote(str(where)))
    return list(find_pictures(where))


def find_pictures(where: str | Path) -> list[Path]:
    """The pictures at ``where``, in natural order.

    Args:
        where: a folder (its subfolders are not searched), a glob, a numbered sequence, or a picture.

    Raises:
        SourceNotFound: no picture lies there.
        SourceError: it cannot be looked into.
    """
    path = Path(where)
    try:
        if path.is_dir():
            # Asking for the kind of each by its path would cost a mount one round trip a picture.
            with os.scandir(path) as entries:
                found = [Path(entry.path) for entry in entries if entry.is_file()]
        elif path.exists():
            found = [path]
        elif is_numbered(where):
            found = _numbered(path)
        else:
            matches = [Path(match) for match in glob(str(where), recursive=True)]  # noqa: PTH207 (may be absolute)
            found = [match for match in matches if _is_picture(match.name) and match.is_file()]
    except OSError as error:
        raise SourceError(f"{where} cannot be looked into ({error.strerror}): check the path") from error
    pictures = [one for one in found if _is_picture(one.name)]
    if not pictures:
        raise _nothing(f"the folder {where} holds" if path.is_dir() else f"{where} matches")
    return sorted(pictures, key=natural_order)


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith(".")


def _nothing(what: str) -> SourceNotFound:
    suffixes = " ".join(sorted(PICTURE_SUFFIXES))
    return SourceNotFound(f"{what} no picture: give one with files that end in {suffixes}")


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


def _listed(path: Path) -> list[Found]:
    """The paths and URLs in a text file, one a line, from its folder on; blank lines and those after ``#`` are left."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise SourceNotFound(f"the list {path} cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no list of pictures: write one path a line, in UTF-8") from error
    found: list[Found] = []
    for line in lines:
        if _URL.match(line):
            found.append(_system_of(line))
        elif line and not line.startswith("#"):
            found.append(path.parent / line)
    if not found:
        raise SourceNotFound(f"the list {path} names no picture: write one path a line")
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
    pictures = [each for each in found if _is_picture(PurePosixPath(each).name)]
    if not pictures:
        raise _nothing(f"{redact(url)} holds")
    return [(system, each) for each in sorted(pictures, key=natural_order)]
