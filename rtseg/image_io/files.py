"""Image files: found in folders, globs, lists and numbered sequences, here or behind a URL, and read as bytes."""

from __future__ import annotations

import os
import re
import stat
import time
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from rtseg.image_io.prefetch import Slot
from rtseg.image_io.read_profile import ReadProfile

__all__ = ["Footprint", "ImageFile", "LocalFile", "RemoteFile"]

_CHUNK = 16 * 2**20
"""Bytes of one read call: less than a slow mount gives within its time-out, and all of most images."""
_LONG = 4
"""A pass that has read more than 1 / 4 of the free memory is long: what it leaves behind would drive out all else."""
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


class ImageFile(ABC):
    """One file that an image is expected in. ``announce``, ``read`` and ``discard`` by one thread at a time."""

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
            OSError: it cannot be read, or is larger than an image may be.
        """

    @abstractmethod
    def discard(self) -> None:
        """Let go of it."""


class LocalFile(ImageFile):
    """A file of this machine or of a mount.

    Args:
        path: where.
        pace: told how long the first byte took.
        footprint: of the pass; once that is long, files that only this pass brought into memory are given back.
        limit: bytes; what is larger is no image.
    """

    def __init__(self, path: Path, pace: ReadProfile, footprint: Footprint, limit: int) -> None:
        self.name = path.name
        self._path = path
        self._pace = pace
        self._footprint = footprint
        self._limit = limit
        self._fd = -1
        self._was_in_memory = self._was_read = False

    def announce(self) -> None:
        """See ``ImageFile``."""
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
        """See ``ImageFile``."""
        facts = os.fstat(self._open())
        return f"{os.path.abspath(self._path)}\0{facts.st_size}\0{facts.st_mtime_ns}"  # noqa: PTH100 - links stay

    def read(self, slot: Slot) -> bytes:
        """See ``ImageFile``."""
        fd = self._open()
        size = os.fstat(fd).st_size
        if size > self._limit:
            raise OSError(0, f"{size} bytes, more than an image can have")
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
        """See ``ImageFile``."""
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


class RemoteFile(ImageFile):
    """A file that fsspec reads. It must come whole within the time-out."""

    def __init__(self, system: Any, path: str, limit: int) -> None:
        self.name = PurePosixPath(path).name
        self._system = system
        self._path = path
        self._limit = limit

    def announce(self) -> None:
        """See ``ImageFile``; there is nobody to tell."""

    def stamp(self) -> str | None:
        """See ``ImageFile``."""
        facts: dict[str, Any] = self._system.info(self._path)
        versions = [f"{key}={facts[key]}" for key in _STAMPS if facts.get(key)]
        if not versions:
            return None
        return "\0".join([self._system.unstrip_protocol(self._path), str(facts.get("size")), *versions])

    def read(self, slot: Slot) -> bytes:
        """See ``ImageFile``."""
        size = self._system.info(self._path).get("size") or 0
        if size > self._limit:
            raise OSError(0, f"{size} bytes, more than an image can have")
        data: bytes = self._system.cat_file(self._path)
        return data

    def discard(self) -> None:
        """See ``ImageFile``."""
