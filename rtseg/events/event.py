"""An event, as it is sent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["Event", "wall_time"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that began or ended."""

    kind: str
    """``start`` or ``end`` of what a rule describes; ``online`` or ``offline`` of a live source."""
    source: str
    """Name of the source, without secrets."""
    time: str
    """Time of day, ISO 8601 in UTC, of the frame or the change of state."""
    rule: str = ""
    """Name of the rule."""
    text: str = ""
    """The rule."""
    region: str = ""
    id: str = ""
    """The same for the start and the end of one event."""
    index: int | None = None
    """Of the frame."""
    pts_s: float | None = None
    """Of the frame: its time in the source, in seconds."""
    at_s: float | None = None
    """When the condition began to hold, or stopped to, in the time of the source."""
    duration_s: float | None = None
    """Of an event that ended, in seconds."""
    value: float | None = None
    """In the frame."""
    unit: str = ""
    """Of ``value`` and ``peak``: ``%``, ``px`` or ``objects``."""
    peak: float | None = None
    """The most extreme value so far."""
    reason: str = ""
    """Why the source is offline, or what else ended the event than its rule."""
    snapshot: bytes | None = field(default=None, repr=False)
    """The frame with its labels, as JPEG."""

    def to_json(self) -> dict[str, Any]:
        """What is known, without the snapshot, as JSON values."""
        names = [name for name in self.__slots__ if name != "snapshot"]
        values = {name: getattr(self, name) for name in names}
        rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
        return {name: value for name, value in rounded.items() if value not in ("", None)}

    def __str__(self) -> str:
        what = self.kind
        if self.rule:
            value = "" if self.value is None else f" ({self.value:.3g} {self.unit})"
            lasted = "" if self.duration_s is None else f" after {self.duration_s:.1f} s"
            what = f"{self.rule}: {self.kind}{lasted}{value if self.kind == 'start' else ''}"
        clock = datetime.fromisoformat(self.time).astimezone().strftime("%H:%M:%S")
        return f"{self.source}: {clock} {what}" + (f": {self.reason}" if self.reason else "")


def wall_time(monotonic_s: float) -> str:
    """The time of day of a ``time.monotonic()``, ISO 8601 in UTC with milliseconds."""
    seconds = time.time() - (time.monotonic() - monotonic_s)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
