"""Image files as bytes: local ones, and remote ones through fsspec."""

from __future__ import annotations

import os
import re
import stat
import time
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from rtseg.image_io.jobs import Slot
from rtseg.image_io.read_profile import ReadProfile
from rtseg.system.remote import VERSION_KEYS

__all__ = ["Footprint", "ImageFile", "LocalFile", "RemoteFile"]

_CHUNK = 16 * 2**20
"""Bytes of one read call: less than a slow mount delivers within its timeout, but a whole file for most images."""
_LARGE_SHARE = 4
"""Once a pass has read 1 / 4 of the free memory, its files would push everything else out of the page cache."""


class Footprint:
    """How much of the machine's page cache one pass has filled. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read = 0
        self._limit = _free_memory() // _LARGE_SHARE

    def add(self, size: int) -> None:
        """Count a file of ``size`` bytes."""
        with self._lock:
            self._read += size

    @property
    def is_large(self) -> bool:
        """Whether files should be dropped from the page cache after they were read."""
        return self._read > self._limit


def _free_memory() -> int:
    """Bytes, as the kernel estimates them."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return int(match[1]) * 1024 if match else 2**32


class ImageFile(ABC):
    """A file that should contain an image. Use it from one thread at a time."""

    name: str
    """The file name without folders, for results and reports."""

    @abstractmethod
    def announce(self) -> None:
        """Tell the kernel that the file will be read soon.

        Raises:
            OSError: it cannot be opened.
        """

    @abstractmethod
    def cache_key(self) -> str | None:
        """Return a text that identifies the file and its version; None if the version is unknown.

        Raises:
            OSError: it cannot be accessed.
        """

    @abstractmethod
    def read(self, slot: Slot) -> bytes:
        """Return the whole content.

        Raises:
            OSError: it cannot be read, or is larger than any image may be.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the file."""


class LocalFile(ImageFile):
    """A file on this machine or on a mount.

    Args:
        path: the file.
        profile: gets the time until the first byte, as long as it measures.
        footprint: of the pass. Once it is large, files that only this pass brought into memory are dropped from it.
        limit: bytes; a larger file is not read.
    """

    def __init__(self, path: Path, profile: ReadProfile, footprint: Footprint, limit: int) -> None:
        self.name = path.name
        self._path = path
        self._profile = profile
        self._footprint = footprint
        self._limit = limit
        self._fd = -1
        self._was_in_memory = self._was_read = False

    def announce(self) -> None:
        """See ``ImageFile``."""
        os.posix_fadvise(self._open(), 0, 0, os.POSIX_FADV_WILLNEED)

    def _open(self) -> int:
        if self._fd < 0:
            # Without O_NONBLOCK, opening a pipe would wait until another process writes to it.
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise OSError(0, "not a regular file")
            self._was_in_memory = _in_memory(self._fd)
        return self._fd

    def cache_key(self) -> str | None:
        """See ``ImageFile``."""
        status = os.fstat(self._open())
        return f"{os.path.abspath(self._path)}\0{status.st_size}\0{status.st_mtime_ns}"  # noqa: PTH100 - keeps links

    def read(self, slot: Slot) -> bytes:
        """See ``ImageFile``."""
        fd = self._open()
        size = os.fstat(fd).st_size
        _check_size(size, self._limit)
        if self._profile.is_measuring:
            started_s = time.monotonic()
            os.pread(fd, 1, 0)
            self._profile.record_first_byte(time.monotonic() - started_s, from_memory=self._was_in_memory)
        parts: list[bytes] = []
        rest = size
        while rest:  # if the file grows meanwhile, its first part is read
            part = os.read(fd, min(rest, _CHUNK))
            if not part:
                break
            parts.append(part)
            rest -= len(part)
            slot.keep_alive()
        self._footprint.add(size)
        self._was_read = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """See ``ImageFile``."""
        if self._fd < 0:
            return
        if self._was_read and self._footprint.is_large and not self._was_in_memory:
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(self._fd)
        self._fd = -1


def _in_memory(fd: int) -> bool:
    """Whether the first byte of a file is in the page cache; False if the file system cannot say."""
    try:
        return bool(os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT))
    except OSError:
        return False


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise OSError(0, f"{size} bytes, more than an image can have")


class RemoteFile(ImageFile):
    """A file that fsspec reads. All of it must arrive within the timeout."""

    def __init__(self, system: Any, path: str, limit: int) -> None:
        self.name = PurePosixPath(path.partition("?")[0]).name  # a query may contain a password
        self._system = system
        self._path = path
        self._limit = limit

    def announce(self) -> None:
        """Do nothing: no kernel reads the file."""

    def cache_key(self) -> str | None:
        """See ``ImageFile``."""
        info: dict[str, Any] = self._system.info(self._path)
        versions = [f"{key}={info[key]}" for key in VERSION_KEYS if info.get(key)]
        if not versions:
            return None
        return "\0".join([self._system.unstrip_protocol(self._path), str(info.get("size")), *versions])

    def read(self, slot: Slot) -> bytes:
        """See ``ImageFile``."""
        _check_size(self._system.info(self._path).get("size") or 0, self._limit)
        data: bytes = self._system.cat_file(self._path)
        return data

    def close(self) -> None:
        """See ``ImageFile``."""
