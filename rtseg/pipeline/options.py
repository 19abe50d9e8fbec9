"""On which frames the network runs. Importing this loads no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from rtseg.errors import OptionError
from rtseg.option import Option

__all__ = ["PropagationOptions"]

_PANEL = "Speed"
_MAX_INTERVAL = 1000


@dataclass(frozen=True, slots=True)
class PropagationOptions:
    """On which frames the network runs, and how labels get onto the others.

    Raises:
        OptionError: a value is out of range, or two options contradict each other.
    """

    propagate: Annotated[str, Option(_PANEL, metavar="auto|off|K")] = "auto"
    """Carry labels along the motion to frames on which the network does not run. K: it runs on every K-th frame and on
    those that look new. off: on every frame. auto: off for files; every frame of a live source is shown at once with
    the newest labels, while the network runs as often as it can."""
    target_fps: Annotated[float | None, Option(_PANEL)] = None
    """Run the network as often as this many frames per second allow. For files; sets K."""
    smooth: Annotated[bool, Option(_PANEL)] = False
    """Reduce flicker: a pixel changes its class where the network says so twice running, or where the motion is not
    trusted."""
    mark: Annotated[bool, Option(_PANEL, ("--propagate-mark",))] = False
    """Draw nothing where carried labels are not trusted. Such pixels are void (255) in masks and statistics."""

    def __post_init__(self) -> None:
        if self.propagate not in ("auto", "off") and self.interval is None:
            raise OptionError(
                f"--propagate must be auto, off or a number of frames from 1 to {_MAX_INTERVAL}, got {self.propagate!r}"
            )
        if self.target_fps is None:
            return
        if not 0 < self.target_fps <= _MAX_INTERVAL:
            raise OptionError(f"--target-fps must be above 0, at most {_MAX_INTERVAL}, got {self.target_fps:g}")
        if self.propagate != "auto":
            raise OptionError("--target-fps chooses K of --propagate by itself: leave one of the two options out")

    @property
    def interval(self) -> int | None:
        """K, the largest number of frames from one run of the network to the next; None for ``auto`` and ``off``."""
        text = self.propagate
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_INTERVAL))):
            return None
        return int(text) if 1 <= int(text) <= _MAX_INTERVAL else None
