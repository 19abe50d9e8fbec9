"""Recordings that viewers start: where they are written, and which there are. The server alone chooses their names."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rtseg.errors import SinkError

__all__ = ["Recording", "find_recording", "list_recordings", "name_recording"]

_NAME = re.compile(r"(?P<source>.+)-\d{8}-\d{6}(-\d+)?\.mp4")
"""Of a file that is complete, as ``name_recording`` names it."""
_MOST = 1000
"""Recordings that are listed, the newest ones."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that is complete."""

    path: Path
    source: str
    """ID of the source."""
    size: int
    """In bytes."""
    ended_s: float
    """Seconds since 1970."""

    @property
    def id(self) -> str:
        """For addresses."""
        return self.path.stem

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        ended = datetime.fromtimestamp(self.ended_s, UTC).isoformat(timespec="seconds")
        return {"id": self.id, "source": self.source, "bytes": self.size, "ended": ended}


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


def list_recordings(folder: Path) -> list[Recording]:
    """Return the recordings in ``folder``, the newest first; none if it is not there yet.

    Raises:
        SinkError: it cannot be read.
    """
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SinkError(f"the folder of recordings cannot be read: {error.strerror}: check --recordings") from error
    found = [recording for path in paths if (recording := _look_at(path)) is not None]
    return sorted(found, key=lambda each: each.ended_s, reverse=True)[:_MOST]


def find_recording(folder: Path, id: str) -> Recording | None:  # noqa: A002 - the name of the API
    """Return the recording with this ID, if there is one. Only what is listed is found: no ID is used as a path.

    Raises:
        SinkError: the folder cannot be read.
    """
    return next((each for each in list_recordings(folder) if each.id == id), None)


def _look_at(path: Path) -> Recording | None:
    match = _NAME.fullmatch(path.name)
    try:
        if match is None or path.is_symlink() or not path.is_file():
            return None
        found = path.stat()
    except FileNotFoundError:  # deleted meanwhile
        return None
    return Recording(path, match["source"], found.st_size, found.st_mtime)
