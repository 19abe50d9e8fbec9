"""Cost and speed of the networks, counted and measured once and stored in ``figures.json``.

``benchmarks/networks.py`` writes that file; ``rtseg.bench.network_speed`` measures on the current machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CLASSES", "FIGURES_FILE", "SIZE", "Figures", "NetworkFigures", "load_figures"]

SIZE = (384, 640)
"""(H, W) of the images."""
CLASSES = 11
"""Number of classes, as in CamVid; it hardly affects the cost."""
FIGURES_FILE = Path(__file__).with_name("figures.json")


@dataclass(frozen=True, slots=True)
class NetworkFigures:
    """Figures of one network in inference, without auxiliary heads, for images of ``SIZE``."""

    parameters: int
    """Number of trainable parameters."""
    flops: int
    """Floating point operations for one image; a multiply-add is two."""
    fps: float
    """Images per second on the CPU with several in flight; the median of several rounds."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of all networks, and how they were measured."""

    networks: dict[str, NetworkFigures]
    """By name, as in ``MODELS``."""
    processor: str
    cores: int
    runtime: str
    """E.g. ``OpenVINO 2026.4.1``."""
    precision: str
    """Precision of the arithmetic, e.g. ``fp32``."""
    date: str
    """Date of the measurement, YYYY-MM-DD, or the first and the last date: ``YYYY-MM-DD to YYYY-MM-DD``."""


def load_figures() -> Figures:
    """Load ``figures.json``."""
    facts = json.loads(FIGURES_FILE.read_text())
    networks = {
        name: NetworkFigures(entry["parameters"], entry["flops"], entry["fps"]["median"])
        for name, entry in facts["networks"].items()
    }
    return Figures(
        networks,
        facts["machine"]["processor"],
        facts["machine"]["cores"],
        f"OpenVINO {facts['versions']['openvino']}",
        facts["precision"],
        _date(entry.get("date", facts["date"]) for entry in facts["networks"].values()),
    )


def _date(dates: Iterable[str]) -> str:
    known = sorted(set(dates))
    return known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}"
