"""How much memory reading takes: in a fresh process, which does nothing else."""

from __future__ import annotations

import multiprocessing
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rtseg.image_io.options import ReadOptions

__all__ = ["Memory", "memory_of_reading"]

_LOOK_S = 0.5
_LOOKS = 120
"""Most of them: a minute. What a reader still takes then is in the peak all the same."""
_STEADY = 1.005
"""Resident memory that grows by less between two looks grows no more."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process that reads a set once, in MB (10**6 bytes)."""

    before_mb: float
    """Resident before the first file is opened, with all libraries loaded."""
    peak_mb: float
    """Resident at its highest."""
    budget_mb: int
    """What ``--prefetch-mb`` allows."""

    def facts(self) -> dict[str, float]:
        """For a report."""
        return asdict(self)


def memory_of_reading(folder: Path, reading: ReadOptions) -> Memory:
    """Read the images of ``folder`` once; after the first, wait until the reader has worked ahead as far as it may.

    Raises:
        SourceError: they cannot be read.
    """
    # Spawned, not forked: else the pages of this process would count.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_read, folder, reading).result()


def _read(folder: Path, reading: ReadOptions) -> Memory:
    from rtseg.sources.base import SourceOptions
    from rtseg.sources.images import ImagesSource

    source = ImagesSource(folder, SourceOptions(reading=reading))
    before_mb = _status_mb("VmRSS")
    for frame in source:
        if frame.index == 0:
            _wait_until_steady()
    return Memory(before_mb, _status_mb("VmHWM"), reading.prefetch_mb)


def _wait_until_steady() -> None:
    resident_mb = 0.0
    for _ in range(_LOOKS):
        now_mb = _status_mb("VmRSS")
        if now_mb <= _STEADY * resident_mb:
            return
        resident_mb = now_mb
        time.sleep(_LOOK_S)  # nothing tells of memory that has stopped growing: it has to be looked at


def _status_mb(field: str) -> float:
    """A figure of this process. Source: proc_pid_status(5)."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, f"Linux always tells {field}"
    return int(found[1]) * 1024 / 1e6
