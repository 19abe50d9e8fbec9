"""What every result records besides its measurements: machine, versions, commit; and rates and medians."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.system.cpu import cpu_features, cpu_info
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
_PACKAGE_FOLDER = Path(__file__).parents[1]


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, system and Python version."""
    processor = cpu_info()
    return {
        "processor": processor.get("model name") or platform.processor() or platform.machine(),
        # The name may be incomplete in a virtual machine.
        "processor_model": ", ".join(
            f"{key.split()[-1]} {processor[key]}" for key in ("cpu family", "model") if key in processor
        ),
        "processor_features": list(cpu_features()),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of rtseg and of the installed packages that matter."""
    installed = {"rtseg": __version__}
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def commit() -> str:
    """Return the commit, with ``+`` if files of rtseg have changed; empty if rtseg does not run from its repository."""
    # An installed package may be inside the repository of another project, which does not track it.
    if _git("ls-files", "--", "__init__.py") != "__init__.py":
        return ""
    return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "--", ".") else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=_PACKAGE_FOLDER, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def rate(times_s: Sequence[float]) -> float:
    """Return the rate (n - 1) / (last - first), per second.

    Raises:
        ValueError: there are fewer than two times, or all are equal.
    """
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        raise ValueError(f"a rate needs two different times, got {len(times_s)}")
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return ``median``, the quartiles ``q1`` and ``q3``, and the values as ``rounds``."""
    low, middle, high = (float(value) for value in np.percentile(values, [25, 50, 75]))
    return {"median": middle, "q1": low, "q3": high, "rounds": [float(value) for value in values]}
