"""What the networks cost and how fast they are: counted and measured once, and kept in ``figures.json``.

``benchmarks/networks.py`` writes that file; ``rtseg.bench.network_speed`` measures on the machine at hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CLASSES", "FILE", "SIZE", "Figures", "NetworkFigures", "load_figures"]

SIZE = (384, 640)
"""(H, W) of the images that all figures are for."""
CLASSES = 11
"""Those of CamVid; their number hardly changes the cost."""
FILE = Path(__file__).with_name("figures.json")


@dataclass(frozen=True, slots=True)
class NetworkFigures:
    """Of one network in inference, where its auxiliary heads are gone, for images of ``SIZE``."""

    parameters: int
    """Numbers that training sets."""
    flops: int
    """Floating point operations for one image, two a multiply-add."""
    fps: float
    """Images a second on the CPU, several in flight: the median of several rounds."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all networks, and what they were measured with."""

    networks: dict[str, NetworkFigures]
    """By name, as in ``MODELS``."""
    processor: str
    cores: int
    runtime: str
    """E.g. ``OpenVINO 2026.4.1``."""
    precision: str
    """What the arithmetic was done in."""
    date: str
    """Of the measurement, YYYY-MM-DD."""


def load_figures() -> Figures:
    """What ``figures.json`` holds."""
    facts = json.loads(FILE.read_text())
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
        facts["date"],
    )
