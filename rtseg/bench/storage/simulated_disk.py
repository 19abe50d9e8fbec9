"""Simulate a hard disk: files of a faster storage arrive when a documented model of a disk would deliver them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from rtseg.image_io.files import ImageFile
from rtseg.image_io.jobs import Slot

__all__ = ["DiskModel", "SimulatedDisk", "SimulatedFile"]

_MB = 1e6


@dataclass(frozen=True, slots=True)
class DiskModel:
    """A desktop disk: 115 random reads per second, 160 MB/s sequentially.

    A read that does not continue the previous one costs a seek and half a rotation, then the transfer. Every file is
    contiguous, and no two files are adjacent. Source: Ruemmler, Wilkes, "An Introduction to Disk
    Drive Modeling", IEEE Computer 27 (3), 1994, with the mean for the seek curve and for the rotational latency.
    """

    seek_ms: float = 4.5
    """Mean seek time within one set of files, which does not span the whole disk."""
    turn_ms: float = 60_000 / 7200
    """One rotation of the platter; on average half of it passes until the first sector arrives."""
    mb_per_s: float = 160.0
    """Transfer, in 10**6 bytes a second."""
    readahead_kb: int = 128
    """How much the kernel requests at a time from a file that was not announced; several readers take turns."""
    queue: int = 1
    """Requests that the disk can reorder: with 1 it serves them in order of arrival."""

    @property
    def access_s(self) -> float:
        """Seek and half a rotation, in seconds."""
        return (self.seek_ms + self.turn_ms / 2) / 1e3

    def transfer_s(self, size: int) -> float:
        """Transfer time of ``size`` contiguous bytes, in seconds."""
        return size / (_MB * self.mb_per_s)

    def facts(self) -> dict[str, Any]:
        """Return the entry ``disk_model`` of the result."""
        return {
            **asdict(self),
            "stated": "in order of arrival; a request that does not go on where the last one ended costs seek_ms + "
            "turn_ms / 2; size / mb_per_s more; unannounced files come readahead_kb at a time, announced ones whole; "
            "directories and inodes cost nothing; what was read once lies in memory until it is dropped",
        }


class SimulatedDisk:
    """A disk that serves one request after the other. Thread-safe.

    It holds no data: ``read`` returns when a disk would have delivered them. Time that already passed, for example to
    read the real file, counts, so a simulated read is never faster than the real one.

    Args:
        model: the disk to simulate.
        clock: returns the time in seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        model: DiskModel,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.model = model
        self.seeks = 0
        self.clock = clock
        self._sleep = sleep
        self._lock = Lock()
        self._idle_s = float("-inf")
        self._position: tuple[Path, int] | None = None
        self._arrival_s: dict[Path, float] = {}

    def announce(self, path: Path, size: int) -> None:
        """Request the ``size`` bytes of a file without waiting, as ``posix_fadvise(WILLNEED)`` does."""
        with self._lock:
            if path not in self._arrival_s:
                self._arrival_s[path] = self._serve(path, 0, size, self.clock())

    def read(self, path: Path, size: int, request_s: float, on_data: Callable[[], None] = lambda: None) -> None:
        """Return when the ``size`` bytes of a file, requested at the time ``request_s``, would have arrived.

        ``on_data`` is called after every part.
        """
        with self._lock:
            arrival_s = self._arrival_s.get(path)
        if arrival_s is not None:
            self._wait(arrival_s)
            return
        step = 1024 * self.model.readahead_kb
        for offset in range(0, size, step):
            with self._lock:
                # Requested when the last part arrived, not now: a thread that wakes up late does not stop the disk.
                request_s = self._serve(path, offset, min(step, size - offset), request_s)
            self._wait(request_s)
            on_data()
        with self._lock:
            self._arrival_s[path] = request_s

    def keep(self, paths: Iterable[Path]) -> None:
        """Treat these files as if they were in the page cache."""
        with self._lock:
            self._arrival_s.update(dict.fromkeys(paths, float("-inf")))

    def forget(self) -> None:
        """Treat the page cache as empty."""
        with self._lock:
            self._arrival_s.clear()
            self._position = None

    def _serve(self, path: Path, offset: int, size: int, request_s: float) -> float:
        """Return when the bytes of a request arrive. Call it with the lock held."""
        start_s = max(request_s, self._idle_s)
        if self._position != (path, offset):
            self.seeks += 1
            start_s += self.model.access_s
        self._position = (path, offset + size)
        self._idle_s = start_s + self.model.transfer_s(size)
        return self._idle_s

    def _wait(self, until_s: float) -> None:
        rest_s = until_s - self.clock()
        if rest_s > 0:
            self._sleep(rest_s)


class SimulatedFile(ImageFile):
    """A file that arrives when ``disk`` would deliver it."""

    def __init__(self, file: ImageFile, path: Path, disk: SimulatedDisk) -> None:
        self.name = file.name
        self._file = file
        self._path = path
        self._disk = disk
        self._size = path.stat().st_size

    def announce(self) -> None:
        """See ``ImageFile``."""
        self._file.announce()
        self._disk.announce(self._path, self._size)

    def cache_key(self) -> str | None:
        """See ``ImageFile``."""
        return self._file.cache_key()

    def read(self, slot: Slot) -> bytes:
        """See ``ImageFile``."""
        request_s = self._disk.clock()
        data = self._file.read(slot)
        self._disk.read(self._path, self._size, request_s, slot.keep_alive)
        return data

    def close(self) -> None:
        """See ``ImageFile``."""
        self._file.close()
