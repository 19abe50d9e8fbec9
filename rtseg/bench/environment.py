"""What every result says beside its figures: machine, versions, commit, medians with quartiles."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.version import __version__

__all__ = ["commit", "cores", "machine", "rate", "spread", "versions"]

_PACKAGES = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
    "torchvision",
    "av",
    "openvino",
    "onnxruntime",
    "torch",
)
_ROOM = Path(__file__).parents[1]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, Python."""
    told = _processor()
    return {
        "processor": told.get("model name") or platform.processor() or platform.machine(),
        # A virtual machine may give the first half of a name.
        "processor_model": ", ".join(
            f"{key.split()[-1]} {told[key]}" for key in ("cpu family", "model") if key in told
        ),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> dict[str, str]:
    """What Linux tells of it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}


def versions() -> dict[str, str]:
    """Of rtseg and of the packages that are installed."""
    found = {"rtseg": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that is measured, with ``+`` where its files have changed; empty outside of a checkout of rtseg."""
    # An installed package may lie in a checkout of something else, which does not track it.
    if _git("ls-files", "--", "__init__.py") != "__init__.py":
        return ""
    return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "--", ".") else "")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=_ROOM, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def rate(times_s: Sequence[float]) -> float:
    """(n - 1) / (last - first), per second.

    Raises:
        ValueError: there are fewer than two times, or they are all one.
    """
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        raise ValueError(f"a rate needs two times that differ, got {len(times_s)}")
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """``median``, ``q1``, ``q3`` and all ``rounds``."""
    low, middle, high = (float(value) for value in np.percentile(values, [25, 50, 75]))
    return {"median": middle, "q1": low, "q3": high, "rounds": [float(value) for value in values]}
