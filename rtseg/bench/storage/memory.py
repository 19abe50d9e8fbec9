"""Measure how much memory reading images takes, in a new process that does nothing else."""

from __future__ import annotations

import multiprocessing
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rtseg.image_io.options import ReadOptions

__all__ = ["Memory", "measure_read_memory"]

_INTERVAL_S = 0.5
_MAX_CHECKS = 120
"""One minute. Memory that the reader allocates later still counts for the peak."""
_STEADY = 1.005
"""Resident memory that grows by less than this factor between two checks is steady."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process that reads a set of images once, in MB (10**6 bytes)."""

    before_mb: float
    """Resident memory before the first file is opened, with all libraries loaded."""
    peak_mb: float
    """Peak of the resident memory."""
    budget_mb: int
    """The limit that ``--prefetch-mb`` sets."""

    def facts(self) -> dict[str, float]:
        """Return the entry ``memory`` of the result."""
        return asdict(self)


def measure_read_memory(folder: Path, reading: ReadOptions) -> Memory:
    """Read the images of ``folder`` once. After the first, wait until the reader has read ahead as far as it may.

    Raises:
        SourceError: the images cannot be read.
    """
    # Spawned, not forked, so that the pages of this process do not count.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_read, folder, reading).result()


def _read(folder: Path, reading: ReadOptions) -> Memory:
    from rtseg.sources.images import ImagesSource
    from rtseg.sources.options import SourceOptions

    source = ImagesSource(folder, SourceOptions(reading=reading))
    before_mb = _status_mb("VmRSS")
    for frame in source:
        if frame.index == 0:
            _wait_until_steady()
    return Memory(before_mb, _status_mb("VmHWM"), reading.prefetch_mb)


def _wait_until_steady() -> None:
    resident_mb = 0.0
    for _ in range(_MAX_CHECKS):
        now_mb = _status_mb("VmRSS")
        if now_mb <= _STEADY * resident_mb:
            return
        resident_mb = now_mb
        time.sleep(_INTERVAL_S)  # there is no event to wait for


def _status_mb(field: str) -> float:
    """Read a memory field of this process. Source: proc_pid_status(5)."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None, f"Linux always reports {field}"
    return int(match[1]) * 1024 / 1e6
