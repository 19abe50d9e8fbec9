"""How fast, and by how many at once, a storage is asked for files: the profile that follows from its kind."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from threading import Lock

from rtseg.image_io.storage_kind import REMOTE, Storage

__all__ = ["ReadProfile"]

_SEEKS_S = 2.5e-3
"""A disk that turns takes longer on average until the first byte of a file (4 ms for half a turn at 7200 rpm, and the
seek); an SSD takes 0.1 ms, one of a cloud about 1 ms."""
_SAMPLES = 8
_MEASURE_S = 1.0
_REMOTE_READERS = 16
_AHEAD = {"hdd": 16, "network": 16, "ssd": 8, "memory": 1, "unknown": 1, REMOTE: 1}
"""Files that the kernel is told of beyond the one that is read."""
_measured: dict[str, Storage] = {}
"""What this process has found of storages of unknown kind, by their device."""
_measured_lock = Lock()


class ReadProfile:
    """How files are read: by one thread after the other, or by many at once. Thread-safe.

    One at a time on disks that turn and on network mounts, many on what has no moving part. Where the kind is unknown,
    it is measured on the first files that do not lie in memory: the time until their first byte, over eight files or
    one second, decides, for every later pass over that device as well. Until then one at a time.

    Args:
        storage: what is read from.
        threads: most readers at once of storage that is near, and processors to decode with.
    """

    def __init__(self, storage: Storage, threads: int) -> None:
        with _measured_lock:
            known = _measured.get(storage.device) if storage.device is not None else None
        self._storage = known if known is not None and storage.kind == "unknown" else storage
        self._threads = threads
        self._lock = Lock()
        self._first_bytes_s: list[float] = []
        self._began_s = 0.0
        self._from_memory = False

    @property
    def storage(self) -> Storage:
        """What is read from, as far as it is known by now."""
        return self._storage

    @property
    def serial(self) -> bool:
        """Whether one file is read at a time."""
        kind = self._storage.kind
        return kind in ("hdd", "network") or (kind == "unknown" and not self._from_memory)

    @property
    def readers(self) -> int:
        """How many files may be read at once."""
        if self._storage.kind == REMOTE:
            return _REMOTE_READERS
        return 1 if self.serial else self._threads

    @property
    def decoders(self) -> int:
        """How many images may be decoded at once: one more than there are processors, as one waits now and then."""
        return self._threads + 1

    @property
    def threads(self) -> int:
        """How many threads are of use: while one waits for a disk, all others can decode."""
        if self._storage.kind == REMOTE:
            return self.decoders + _REMOTE_READERS
        return self.decoders + 1

    @property
    def ahead(self) -> int:
        """How many files before they are read; at least 1."""
        return _AHEAD[self._storage.kind]

    @property
    def announces(self) -> bool:
        """Whether the kernel is to be told of files before they are read; it would spoil the measuring."""
        return self._storage.kind in ("hdd", "network", "ssd")

    @property
    def measures(self) -> bool:
        """Whether ``first_byte`` wants to know more."""
        return self._storage.kind == "unknown"

    def first_byte(self, seconds: float, *, from_memory: bool) -> None:
        """Take note of how long the first byte of a file took, in seconds."""
        with self._lock:
            if not self.measures:
                return
            self._from_memory = from_memory
            if from_memory:
                return
            now = time.monotonic()
            self._began_s = self._began_s or now
            self._first_bytes_s.append(seconds)
            if len(self._first_bytes_s) < _SAMPLES and now - self._began_s < _MEASURE_S:
                return
            typical_s = median(self._first_bytes_s)
            kind = "hdd" if typical_s > _SEEKS_S else "ssd"
            why = f"{self._storage.why}; measured: {1e3 * typical_s:.1f} ms until the first byte of a file"
            self._storage = replace(self._storage, kind=kind, why=why)
            if self._storage.device is not None:
                with _measured_lock:
                    _measured[self._storage.device] = self._storage
