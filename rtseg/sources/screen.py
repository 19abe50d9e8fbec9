"""The screen of this machine, read with mss."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.errors import MissingExtra, OptionError, SourceError
from rtseg.frame import Frame, Image
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions

__all__ = ["ScreenSource"]

_FPS = 30.0
_NAME = re.compile(
    r"(?P<number>\d{1,3})|(?P<width>\d{1,5})x(?P<height>\d{1,5})(\+(?P<left>\d{1,5})\+(?P<top>\d{1,5}))?",
    re.ASCII,
)


class ScreenSource(Source):
    """A screen: ``screen`` (the first), ``screen:2``, ``screen:0`` (all of them), or a part of all,
    ``screen:1280x720+100+50`` (width, height, left, top, in pixels).

    30 images per second, or ``options.fps``; fewer if the screen cannot be read that fast. An image that does not
    change is no fault here. Wayland lets no program read the screen without asking; X11, Windows and macOS do.
    """

    live = True
    takes_fps = True

    def __init__(self, where: str | Path, options: SourceOptions) -> None:
        """Parse the name of the screen. Iterating opens it.

        Raises:
            OptionError: ``where`` is no screen.
        """
        wanted = str(where).removeprefix("screen").removeprefix(":") or "1"
        match = _NAME.fullmatch(wanted)
        if match is None:
            raise OptionError(f"screen:{wanted[:40]} is no screen: write screen, screen:2 or screen:1280x720+100+50")
        self._number = int(match["number"] or 0)
        part = {key: int(match[key] or 0) for key in ("left", "top", "width", "height")}
        self._part = None if match["number"] else part
        if self._part is not None and not part["width"] * part["height"]:
            raise OptionError(f"screen:{wanted} has no area: give a width and a height above 0")
        super().__init__(f"screen-{wanted}", replace(options, freeze_timeout_s=0.0))
        self.fps = options.fps or _FPS

    def _read(self) -> Iterator[Frame]:
        grabber = _open()
        try:
            with _named_errors(self.name):
                area = self._area(grabber.monitors)
            first_s = due_s = time.monotonic()
            index = 0
            while not self.stopped:
                image, now_s = self._grab(grabber, area), time.monotonic()
                yield Frame(image, index, now_s - first_s, now_s)
                index += 1
                due_s = max(due_s + 1 / (self.fps or _FPS), time.monotonic())
                self._stop.wait(due_s - time.monotonic())
        finally:
            with suppress(SourceError), _named_errors(self.name):  # a lost connection cannot be closed
                grabber.close()

    def _area(self, screens: list[dict[str, int]]) -> dict[str, int]:
        """What to read, in pixels of all screens. ``screens``: all together, then each."""
        if self._number >= len(screens):
            raise SourceError(f"there is no screen {self._number}: give 1 to {len(screens) - 1}, or 0 for all")
        everything = screens[0]
        if self._part is None:
            return screens[self._number]
        part = self._part
        if part["left"] + part["width"] > everything["width"] or part["top"] + part["height"] > everything["height"]:
            size = f"{everything['width']}x{everything['height']}"
            raise SourceError(f"{self.name} reaches beyond the screen of {size}: give a smaller part")
        return {**part, "left": everything["left"] + part["left"], "top": everything["top"] + part["top"]}

    def _grab(self, grabber: Any, area: dict[str, int]) -> Image:
        """An image, BGR, uint8 (H, W, 3)."""
        with _named_errors(self.name):
            shot = grabber.grab(area)
        return np.ascontiguousarray(np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)[..., :3])


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    from mss.exception import ScreenShotError

    try:
        yield
    except (ScreenShotError, AssertionError) as error:  # mss asserts that X11 answers
        reason = _reason(error) or "the connection is lost"
        raise SourceError(f"{name} cannot be read any more ({reason}): is the display there?") from error


def _open() -> Any:
    """Connect to the display.

    Raises:
        MissingExtra: mss is not installed.
        SourceError: there is no display, or it lets nobody read it.
    """
    try:
        import mss
        from mss.exception import ScreenShotError
    except ImportError as error:
        raise MissingExtra.for_feature("a screen as the source", error.name, "screen") from error
    if sys.platform.startswith("linux") and os.environ.get("XDG_SESSION_TYPE") == "wayland":
        raise SourceError(
            "Wayland lets no program read the screen without asking: show it with the virtual camera of OBS Studio, "
            "which asks, and give camera:N"
        )
    try:
        return mss.MSS()
    except ScreenShotError as error:
        raise SourceError(
            f"the screen cannot be read ({_reason(error)}): does DISPLAY name one that is there?"
        ) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
