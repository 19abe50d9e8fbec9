"""How many files are read at once from a storage, and how far ahead: the profile that follows from its kind."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from statistics import median
from threading import Lock

from rtseg.image_io.storage_kind import REMOTE, Storage

__all__ = ["ReadProfile", "decode_threads"]

_MAX_DECODE_THREADS = 32
_HDD_FIRST_BYTE_S = 2.5e-3
"""A storage that takes longer for the first byte of a file is a hard disk: half a turn at 7200 rpm takes 4 ms, and the
seek comes on top. An SSD takes 0.1 ms, a cloud SSD about 1 ms."""
_SAMPLES = 8
_MEASURE_S = 1.0
_REMOTE_READERS = 16
_FILES_AHEAD = {"hdd": 16, "network": 16, "ssd": 8, "memory": 1, "unknown": 1, REMOTE: 1}
_measured: dict[str, Storage] = {}
"""Storages of unknown kind that this process has measured, by device."""
_measured_lock = Lock()


def decode_threads() -> int:
    """How many threads should decode at once: one for each processor that this process may use, at most 32.

    With more, the threads would evict each other's images from the processor caches.
    """
    return min(_MAX_DECODE_THREADS, len(os.sched_getaffinity(0)))


class ReadProfile:
    """How files are read: one at a time, or several at once. Thread-safe.

    Hard disks and network mounts are read one file at a time, storage without moving parts with several threads. A
    storage of unknown kind is read one file at a time and measured: the median time until the first byte, over eight
    files that are not in memory or over one second, decides. Later passes over the same device use that result.

    Args:
        storage: the storage to read from.
        threads: how many processors decode, and how many files of a fast local storage are read at once.
    """

    def __init__(self, storage: Storage, threads: int) -> None:
        with _measured_lock:
            known = _measured.get(storage.device) if storage.device is not None else None
        self._storage = known if known is not None and storage.kind == "unknown" else storage
        self._threads = threads
        self._lock = Lock()
        self._first_bytes_s: list[float] = []
        self._started_s = 0.0
        self._from_memory = False

    @property
    def storage(self) -> Storage:
        """The storage; its kind may become known while files are read."""
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
        """How many images may be decoded at once: one more than processors, because a thread waits now and then."""
        return self._threads + 1

    @property
    def threads(self) -> int:
        """How many threads to start: those that decode, and those that wait for the storage meanwhile."""
        return self.decoders + (_REMOTE_READERS if self._storage.kind == REMOTE else 1)

    @property
    def files_ahead(self) -> int:
        """How many files are announced to the kernel before they are read; at least 1."""
        return _FILES_AHEAD[self._storage.kind]

    @property
    def announces(self) -> bool:
        """Whether files are announced to the kernel. Not while measuring: it would falsify the times."""
        return self._storage.kind in ("hdd", "network", "ssd")

    @property
    def is_measuring(self) -> bool:
        """Whether ``record_first_byte`` needs more samples."""
        return self._storage.kind == "unknown"

    def record_first_byte(self, seconds: float, *, from_memory: bool) -> None:
        """Record how long the first byte of a file took, in seconds."""
        with self._lock:
            if not self.is_measuring:
                return
            self._from_memory = from_memory
            if from_memory:
                return
            now = time.monotonic()
            self._started_s = self._started_s or now
            self._first_bytes_s.append(seconds)
            if len(self._first_bytes_s) < _SAMPLES and now - self._started_s < _MEASURE_S:
                return
            typical_s = median(self._first_bytes_s)
            kind = "hdd" if typical_s > _HDD_FIRST_BYTE_S else "ssd"
            why = f"{self._storage.why}; measured: {1e3 * typical_s:.1f} ms until the first byte of a file"
            self._storage = replace(self._storage, kind=kind, why=why)
            if self._storage.device is not None:
                with _measured_lock:
                    _measured[self._storage.device] = self._storage
