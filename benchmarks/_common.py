"""Save results with machine, versions and commit. Used by all benchmark scripts."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rtseg.bench.environment import commit, cores, machine, spread

__all__ = ["RESULTS", "ROOT", "commit", "cores", "machine", "save", "spread", "versions"]

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of the installed packages."""
    installed = {}
    for package in ("rtseg", "numpy", "opencv-python", "av", "openvino", *packages):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def save(path: Path, facts: dict[str, Any]) -> Path:
    """Write the results to a JSON file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "commit": commit(), **facts}, indent=2) + "\n")
    return path
