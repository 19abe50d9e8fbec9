"""A hard disk where there is none: the files of another storage, as late as a stated model of a disk gives them."""

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
    """A desktop disk: 115 random reads a second, 160 MB/s in one piece.

    A read that does not go on where the one before ended costs a seek and half a turn of the platter, then the
    transfer. A file lies in one piece, and apart from every other. Source: Ruemmler, Wilkes, "An Introduction to Disk
    Drive Modeling", IEEE Computer 27 (3), 1994, with the mean for the seek curve and for the rotational latency.
    """

    seek_ms: float = 4.5
    """Mean of the seeks within one set of files, which do not cross the whole disk."""
    turn_ms: float = 60_000 / 7200
    """One turn of the platter; half of one passes until the first sector comes by."""
    mb_per_s: float = 160.0
    """Transfer, in 10**6 bytes a second."""
    readahead_kb: int = 128
    """What the kernel asks for at once of a file that nobody announced: readers of several files take turns with it."""
    queue: int = 1
    """Requests that the disk knows of at once: it serves them in the order in which they come."""

    @property
    def access_s(self) -> float:
        """Seek and half a turn, in seconds."""
        return (self.seek_ms + self.turn_ms / 2) / 1e3

    def transfer_s(self, size: int) -> float:
        """Time that ``size`` bytes in one piece take, in seconds."""
        return size / (_MB * self.mb_per_s)

    def facts(self) -> dict[str, Any]:
        """For a report."""
        return {
            **asdict(self),
            "stated": "in order of arrival; a request that does not go on where the last one ended costs seek_ms + "
            "turn_ms / 2; size / mb_per_s more; unannounced files come readahead_kb at a time, announced ones whole; "
            "directories and inodes cost nothing; what was read once lies in memory until it is dropped",
        }


class SimulatedDisk:
    """A disk of ``model``, serving one request after the other. Thread-safe.

    It knows of no data: ``read`` returns when a disk would have given it. A time that has passed otherwise meanwhile
    (reading the real file, say) is part of that, so a simulated read is never faster than the real one.

    Args:
        model: see there.
        clock: seconds.
        sleep: lets seconds pass.
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
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()
        self._free_s = float("-inf")
        self._head: tuple[Path, int] | None = None
        self._comes_s: dict[Path, float] = {}

    def announce(self, path: Path, size: int) -> None:
        """Ask for the ``size`` bytes of a file without waiting, as ``posix_fadvise(WILLNEED)`` does."""
        with self._lock:
            if path not in self._comes_s:
                self._comes_s[path] = self._serve(path, 0, size, self._clock())

    def read(self, path: Path, size: int, asked_s: float, alive: Callable[[], None] = lambda: None) -> None:
        """Return when the ``size`` bytes of a file that were asked for at ``asked_s`` of the clock have come.

        ``alive`` is called at every part that came.
        """
        with self._lock:
            comes_s = self._comes_s.get(path)
        if comes_s is not None:
            self._wait(comes_s)
            return
        step = 1024 * self.model.readahead_kb
        for offset in range(0, size, step):
            with self._lock:
                # From when the last part came, not from now: a thread that wakes up late does not stop the disk.
                asked_s = self._serve(path, offset, min(step, size - offset), asked_s)
            self._wait(asked_s)
            alive()
        with self._lock:
            self._comes_s[path] = asked_s

    def keep(self, paths: Iterable[Path]) -> None:
        """These files lie in memory already."""
        with self._lock:
            self._comes_s.update(dict.fromkeys(paths, float("-inf")))

    def forget(self) -> None:
        """Nothing lies in memory any more."""
        with self._lock:
            self._comes_s.clear()
            self._head = None

    def _serve(self, path: Path, offset: int, size: int, asked_s: float) -> float:
        """When the bytes of a request come. The lock is held."""
        begun_s = max(asked_s, self._free_s)
        if self._head != (path, offset):
            self.seeks += 1
            begun_s += self.model.access_s
        self._head = (path, offset + size)
        self._free_s = begun_s + self.model.transfer_s(size)
        return self._free_s

    def _wait(self, until_s: float) -> None:
        rest_s = until_s - self._clock()
        if rest_s > 0:
            self._sleep(rest_s)

    def now_s(self) -> float:
        """Of its clock."""
        return self._clock()


class SimulatedFile(ImageFile):
    """A file that comes as late as if it lay on ``disk``."""

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
        asked_s = self._disk.now_s()
        data = self._file.read(slot)
        self._disk.read(self._path, self._size, asked_s, slot.keep_alive)
        return data

    def close(self) -> None:
        """See ``ImageFile``."""
        self._file.close()
