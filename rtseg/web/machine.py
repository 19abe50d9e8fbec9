"""How busy this machine and this process are."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

__all__ = ["MachineLoad"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MachineLoad:
    """Measures between two calls. Use it on one thread."""

    def __init__(self) -> None:
        self._before = time.monotonic(), time.process_time()

    def __call__(self) -> dict[str, Any]:
        """Cores in use by this process since the last call, its memory, and the load of the machine."""
        now = time.monotonic(), time.process_time()
        span_s = max(1e-3, now[0] - self._before[0])
        cores = (now[1] - self._before[1]) / span_s
        self._before = now
        return {
            "cores_used": round(cores, 2),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "memory_mb": _memory_mb(),
        }


def _memory_mb() -> float | None:
    """Memory of this process; None where the system does not say."""
    try:
        return round(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6, 1)
    except (OSError, ValueError):
        return None
