"""Options of small batch runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtseg.batch.options import BatchOptions

__all__ = ["options"]


def options(videos: Path, output: Path, model: Path, **more: Any) -> BatchOptions:
    """One process, and segments of two seconds."""
    return BatchOptions(
        (str(videos),), str(output), str(model), precision="fp32", **{"segment_s": 2.0, "workers": 1} | more
    )
