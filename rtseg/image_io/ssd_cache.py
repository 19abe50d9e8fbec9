"""A cache on a fast disk for image files from slow storage."""

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

_HEADER = struct.Struct("<8sIQ")
"""Magic number, CRC-32 and length of the content."""
_MAGIC = b"rtseg-c1"
_SUFFIX = ".entry"
_PARTIAL_SUFFIX = ".part"
_ABANDONED_S = 3600.0
"""A half-written entry older than this was left by a process that died."""
_EXTRA_ROOM = 0.05
"""Share of the limit that is freed in addition, so that not every new entry has to list all others."""


class SsdCache:
    """A folder of file contents by key, with a size limit. Least recently used entries are removed first.

    Several threads and processes may use the folder at once. An entry is written to a temporary file and renamed, and
    stores its length and CRC-32: a damaged or incomplete entry is a miss. A folder that cannot be written (any more)
    is still read; ``fault`` says why.

    Args:
        folder: created if missing.
        limit: bytes of all entries together, without those that are being written.

    Raises:
        OptionError: the folder cannot be created or read.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._limit = limit
        self.fault: str | None = None
        """Why new entries are not stored, or None."""
        self.hits = self.misses = self.damaged = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            next(folder.iterdir(), None)
        except OSError as error:
            raise OptionError(f"--ssd-cache {folder} cannot be used ({error.strerror}): give another folder") from error
        try:
            with self._locked() as lock:
                self._remove_abandoned()
                _write_total(lock, sum(size for _, size, _ in self._entries()))
        except OSError as error:
            self._fail(error)

    def has(self, key: str) -> bool:
        """Whether there is an entry, which may be damaged."""
        return self._path(key).exists()

    def get(self, key: str, *, on_hit: Callable[[], None] = lambda: None) -> bytes | None:
        """Return the content stored under ``key``; None if there is none or it is damaged.

        ``on_hit`` is called when an entry exists, before it is read.
        """
        path = self._path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.misses += 1
            return None
        on_hit()
        try:
            data = _read_entry(fd)
        finally:
            os.close(fd)
        if data is None:
            self.damaged += 1
            self.misses += 1
            return None
        self.hits += 1
        with contextlib.suppress(OSError):  # a read-only folder can still be read
            os.utime(path)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Store ``data``, unless it is larger than the limit or the folder cannot be written."""
        size = _HEADER.size + len(data)
        if self.fault is not None or size > self._limit:
            return
        path = self._path(key)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.{get_ident()}{_PARTIAL_SUFFIX}")
        try:
            path.parent.mkdir(exist_ok=True)
            try:
                _write_entry(partial, data)
                with self._locked() as lock:
                    total = _read_total(lock) - _size_of(path)
                    if total + size > self._limit:
                        total = self._make_room(size)
                    partial.replace(path)
                    _write_total(lock, total + size)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.fault = f"no more files are stored in {self.folder}: {error.strerror}"

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}{_SUFFIX}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Lock the file that stores the total size, and yield its descriptor."""
        # flock belongs to the open file, not to the process, so it also works between threads.
        fd = os.open(self.folder / "total", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Yield last use, size in bytes and path of every entry."""
        for path in self.folder.glob(f"??/*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime, status.st_size, path

    def _make_room(self, size: int) -> int:
        """Remove the least recently used entries and return the remaining bytes. Call it with the lock held."""
        entries = sorted(self._entries())
        total = sum(entry_size for _, entry_size, _ in entries)
        for _, entry_size, path in entries:
            if total + size <= (1 - _EXTRA_ROOM) * self._limit:
                break
            path.unlink(missing_ok=True)
            total -= entry_size
        return total

    def _remove_abandoned(self) -> None:
        for partial in self.folder.glob(f"??/*{_PARTIAL_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - partial.stat().st_mtime > _ABANDONED_S:
                    partial.unlink()


def _write_entry(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for part in (_HEADER.pack(_MAGIC, zlib.crc32(data), len(data)), data):
            rest = memoryview(part)
            while rest:
                rest = rest[file.write(rest) :]


def _read_entry(fd: int) -> bytes | None:
    header = os.read(fd, _HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, checksum, length = _HEADER.unpack(header)
    if magic != _MAGIC or os.fstat(fd).st_size != _HEADER.size + length:
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
    """A file that is read from the cache if possible, and stored there after it was read.

    Args:
        origin: the file itself.
        cache: the cache; a new version of the file is a new entry.
    """

    def __init__(self, origin: ImageFile, cache: SsdCache) -> None:
        self.name = origin.name
        self._origin = origin
        self._cache = cache

    def announce(self) -> None:
        """See ``ImageFile``. A file in the cache is not announced."""
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
        cached = self._cache.get(key, on_hit=slot.release)
        if cached is not None:
            return cached
        data = self._origin.read(slot)
        self._cache.put(key, data)
        return data

    def close(self) -> None:
        """See ``ImageFile``."""
        self._origin.close()
