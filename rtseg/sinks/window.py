"""A window on the desktop."""

from __future__ import annotations

import contextlib
import os
import re
import time
from threading import Event

from rtseg.errors import SinkClosed, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks.base import Sink
from rtseg.system.display import asks_a_server, choose_qt_platform, connect_display
from rtseg.system.opencv import cv2

__all__ = ["WindowSink"]

_QUIT_KEYS = {ord("q"), ord("Q"), 27}
_PAUSE_KEY = ord(" ")
_PAUSED_MS = 30
_LATE_S = 0.5
"""From this lateness on the clock starts anew: a film that was held up goes on, it does not race."""
_LARGEST = (1280, 720)
_SMALLEST = 480


class WindowSink(Sink):
    """Shows the images as they come.

    Keys: ``q`` or Esc ends the run, the space bar pauses. Closing the window ends the run as well. A file is
    shown at its own speed, and a pause holds the whole run. A live source is shown at once, and a pause
    holds the image alone, so that a recording beside it goes on.

    All calls must come from one thread; on macOS that must be the main thread.
    """

    kind = "window"

    def __init__(self, title: str, *, live: bool, stop: Event | None = None) -> None:
        """Find out whether a window can be shown; it opens with the first frame.

        Args:
            title: of the window.
            live: whether the source cannot wait.
            stop: set when the run is to end; ends every wait for a time or for the end of a pause.

        Raises:
            SinkError: OpenCV was built without windows, or no display answers.
        """
        self.title = title
        self.name = f"window {title}"
        self._live = live
        self._stop = stop or Event()
        self._open = False
        self._paused = False
        self._start_s: float | None = None
        _check_opencv()
        self._display = connect_display() if asks_a_server() else None
        if self._display is None and asks_a_server():
            raise SinkError(_no_display())

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Show ``rendered`` when its time has come; see ``Sink``.

        Raises:
            SinkClosed: the viewer quit, or closed the window.
        """
        if rendered is None:
            raise ValueError(f"{self.name} needs the rendered image")
        if not self._open:
            self._show_window(rendered)
        if not self._live:
            self._wait_for(frame.pts_s)
        if not (self._live and self._paused):
            cv2.imshow(self.title, rendered)
        self._handle_events(1)
        self.written += 1
        if not self._live:
            self._wait_while_paused()

    def close(self) -> None:
        """Close the window; see ``Sink``."""
        self._let_display_go()
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(cv2.error):  # the viewer closed it
            cv2.destroyWindow(self.title)
            cv2.waitKey(1)

    def _show_window(self, rendered: Image) -> None:
        choose_qt_platform()
        # GUI_NORMAL: no toolbar, and no menu whose keys we would take for ours.
        cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(self.title, *_window_size(rendered.shape[1], rendered.shape[0]))
        self._open = True
        self._let_display_go()

    def _let_display_go(self) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None

    def _wait_for(self, pts_s: float) -> None:
        """Return when a frame of ``pts_s`` is due, counted from the first frame shown."""
        now_s = time.monotonic()
        if self._start_s is None or now_s - (self._start_s + pts_s) > _LATE_S:
            self._start_s = now_s - pts_s
        while not self._stop.is_set():
            left_s = self._start_s + pts_s - time.monotonic()
            if left_s < 0.001:
                return
            self._handle_events(min(_PAUSED_MS, int(left_s * 1000)))
            self._wait_while_paused()

    def _wait_while_paused(self) -> None:
        began_s = time.monotonic()
        while self._paused and not self._stop.is_set():
            self._handle_events(_PAUSED_MS)
        if self._start_s is not None:
            self._start_s += time.monotonic() - began_s

    def _handle_events(self, wait_ms: int) -> None:
        """Let the window paint and the viewer act, for ``wait_ms``."""
        key = cv2.waitKey(wait_ms)
        if key >= 0 and key & 0xFF in _QUIT_KEYS:
            raise SinkClosed(f"{self.name}: quit by the viewer")
        if key >= 0 and key & 0xFF == _PAUSE_KEY:
            self._paused = not self._paused
        # Without asking, the next imshow would open a closed window again.
        if not self._visible():
            raise SinkClosed(f"{self.name}: closed by the viewer")

    def _visible(self) -> bool:
        try:
            return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False


def _window_size(width: int, height: int) -> tuple[int, int]:
    """(W, H) to open with: that of the image, made to fit a small screen or large enough to see."""
    scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
    scale = max(scale, min(_SMALLEST / max(width, height), 8.0))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check_opencv() -> None:
    if re.search(r"^\s*GUI:\s*NONE\s*$", cv2.getBuildInformation(), re.MULTILINE):
        raise SinkError(
            "this OpenCV shows no windows: pip uninstall opencv-python-headless, "
            "pip install --force-reinstall opencv-python; or go on with --no-show"
        )


def _no_display() -> str:
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    found = f"the display {display} does not answer" if display else "there is no display (DISPLAY is not set)"
    return f"no window can be shown, {found}: go on with --no-show, or write a video with --output"
