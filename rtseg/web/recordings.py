"""Where recordings that a viewer starts are written. The server alone chooses their names."""

from __future__ import annotations

import time
from pathlib import Path

from rtseg.errors import SinkError

__all__ = ["name_recording"]


def name_recording(folder: Path, source: str) -> Path:
    """Return a new name for a recording of the source with this ID: with the time, and a number if there is one.

    Raises:
        SinkError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"the folder of recordings cannot be created: {error.strerror}: choose --recordings") from error
    stem, number = f"{source}-{time.strftime('%Y%m%d-%H%M%S')}", 1
    path = folder / f"{stem}.mp4"
    while path.exists() or path.with_suffix(".part.mp4").exists():
        number += 1
        path = folder / f"{stem}-{number}.mp4"
    return path
