"""Copies of files from slow storage in a folder on a fast one."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import get_ident

from rtseg.errors import OptionError
from rtseg.image_io.files import ImageFile
from rtseg.image_io.jobs import Slot

__all__ = ["CachedFile", "SsdCache"]

_HEAD = struct.Struct("<8sIQ")
_MAGIC = b"rtseg-c1"
_SUFFIX = ".entry"
_PART = ".part"
_ABANDONED_S = 3600.0
"""Half-written entries older than this were left by a process that died."""
_ROOM = 0.05
"""Share of the bound that is made free beyond need, so that not every new entry has to look at all others."""


class SsdCache:
    """Files by key, within a bound; what was not used for longest goes first. For many threads and processes at once.

    An entry is written beside its place and renamed, and carries its length and CRC-32: what is damaged, or was cut off
    when the power went, is a miss. A folder that cannot be written (any more) is still read from; ``fault`` says so.

    Args:
        folder: made where it is missing.
        limit: bytes of all entries together; bytes that threads are just writing are not among them.

    Raises:
        OptionError: the folder cannot be made or looked into.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._limit = limit
        self.fault: str | None = None
        """Why nothing more is kept."""
        self.hits = self.misses = self.damaged = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            next(folder.iterdir(), None)
        except OSError as error:
            raise OptionError(f"--ssd-cache {folder} cannot be used ({error.strerror}): give another folder") from error
        try:
            with self._locked() as lock:
                self._clean()
                _write_total(lock, sum(size for _, size, _ in self._entries()))
        except OSError as error:
            self._fail(error)

    def has(self, key: str) -> bool:
        """Whether there is an entry; it may yet prove damaged."""
        return self._path(key).exists()

    def get(self, key: str, *, found: Callable[[], None] = lambda: None) -> bytes | None:
        """What was put under ``key``; None where it is not here, or not as it was.

        ``found`` is called as soon as an entry is found, before it is read.
        """
        path = self._path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.misses += 1
            return None
        found()
        try:
            data = _read_entry(fd)
        finally:
            os.close(fd)
        if data is None:
            self.damaged += 1
            self.misses += 1
            return None
        self.hits += 1
        with contextlib.suppress(OSError):  # a folder that cannot be written is read all the same
            os.utime(path)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data``, unless it is larger than the bound or the folder cannot be written."""
        size = _HEAD.size + len(data)
        if self.fault is not None or size > self._limit:
            return
        path = self._path(key)
        part = path.with_name(f"{path.stem}.{os.getpid()}.{get_ident()}{_PART}")
        try:
            path.parent.mkdir(exist_ok=True)
            try:
                _write_entry(part, data)
                with self._locked() as lock:
                    total = _read_total(lock) - _size_of(path)
                    if total + size > self._limit:
                        total = self._make_room(size)
                    part.replace(path)
                    _write_total(lock, total + size)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.fault = f"nothing more is kept in {self.folder}: {error.strerror}"

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}{_SUFFIX}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that holds the bytes of all entries, for this thread alone."""
        # The lock belongs to the open file, not to the process: it holds between threads, too.
        fd = os.open(self.folder / "total", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Of each entry: when it was used last, its bytes, its path."""
        for path in self.folder.glob(f"??/*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                yield facts.st_mtime, facts.st_size, path

    def _make_room(self, size: int) -> int:
        """Remove what was not used for longest; returns the bytes that stay. The lock is held."""
        entries = sorted(self._entries())
        total = sum(each for _, each, _ in entries)
        for _, each, path in entries:
            if total + size <= (1 - _ROOM) * self._limit:
                break
            path.unlink(missing_ok=True)
            total -= each
        return total

    def _clean(self) -> None:
        for part in self.folder.glob(f"??/*{_PART}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > _ABANDONED_S:
                    part.unlink()


def _write_entry(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for part in (_HEAD.pack(_MAGIC, zlib.crc32(data), len(data)), data):
            rest = memoryview(part)
            while rest:
                rest = rest[file.write(rest) :]


def _read_entry(fd: int) -> bytes | None:
    head = os.read(fd, _HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, checksum, length = _HEAD.unpack(head)
    if magic != _MAGIC or os.fstat(fd).st_size != _HEAD.size + length:
        return None
    try:
        data = os.read(fd, length)
    except OSError:
        return None
    return data if len(data) == length and zlib.crc32(data) == checksum else None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read_total(fd: int) -> int:
    text = os.pread(fd, 32, 0)
    return int(text) if text.strip().isdigit() else 0


def _write_total(fd: int, total: int) -> None:
    os.pwrite(fd, f"{total:<32}".encode(), 0)


class CachedFile(ImageFile):
    """``origin``, read through ``cache``: the first reading of each of its versions fills it."""

    def __init__(self, origin: ImageFile, cache: SsdCache) -> None:
        self.name = origin.name
        self._origin = origin
        self._cache = cache

    def announce(self) -> None:
        """See ``ImageFile``; what is in the cache will not be read from the file."""
        key = self.cache_key()
        if key is None or not self._cache.has(key):
            self._origin.announce()

    def cache_key(self) -> str | None:
        """See ``ImageFile``."""
        return self._origin.cache_key()

    def read(self, slot: Slot) -> bytes:
        """See ``ImageFile``."""
        key = self.cache_key()
        if key is None:
            return self._origin.read(slot)
        kept = self._cache.get(key, found=slot.release)
        if kept is not None:
            return kept
        data = self._origin.read(slot)
        self._cache.put(key, data)
        return data

    def close(self) -> None:
        """See ``ImageFile``."""
        self._origin.close()
