"""A window on the desktop."""

from __future__ import annotations

import contextlib
import os
import re
import time
from threading import Event

import numpy as np

from rtseg.errors import SinkClosed, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks.base import Sink
from rtseg.system.display import choose_qt_platform, connect_display, display_answers, needs_display_server
from rtseg.system.opencv import cv2

__all__ = ["WindowSink"]

_QUIT_KEYS = {ord("q"), ord("Q"), 27}
_PAUSE_KEY = ord(" ")
_PAUSED_MS = 30
_LATE_S = 0.5
"""A frame later than this restarts the clock: after a delay, playback continues at normal speed."""
_LARGEST = (1280, 720)
_SMALLEST = 480


class WindowSink(Sink):
    """Shows the rendered frames.

    Keys: ``q`` or Esc ends the run, the space bar pauses. Closing the window ends the run, too. A file is shown at its
    own speed, and a pause stops the whole run. Frames of a live source are shown immediately, and a pause only
    freezes the window, so that a recording continues.

    All calls must come from one thread; on macOS it must be the main thread.
    """

    kind = "window"

    def __init__(self, title: str, *, live: bool, stop: Event | None = None) -> None:
        """Check that a window can be shown; the first frame opens it.

        Args:
            title: title of the window.
            live: whether the source is live and cannot wait.
            stop: ends every wait, for a frame time or for the end of a pause, once set.

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
        self._display = connect_display() if needs_display_server() else None
        if self._display is None and needs_display_server():
            raise SinkError(_no_display())

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Show ``rendered`` when it is due; see ``Sink``.

        Raises:
            SinkClosed: the viewer quit, or closed the window.
            SinkError: the display has gone.
        """
        if rendered is None:
            raise ValueError(f"{self.name} needs the rendered image")
        self._check_display()
        if not self._open:
            self._show_window(_square_pixels(rendered, float(frame.pixel_aspect)))
        if not self._live:
            self._wait_for(frame.pts_s)
        if not (self._live and self._paused):
            cv2.imshow(self.title, _square_pixels(rendered, float(frame.pixel_aspect)))
        self._handle_events(1)
        self.written += 1
        if not self._live:
            self._wait_while_paused()

    def close(self) -> None:
        """Close the window; see ``Sink``."""
        self._release_display()
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(cv2.error):  # the viewer closed it
            cv2.destroyWindow(self.title)
            cv2.waitKey(1)

    def _show_window(self, rendered: Image) -> None:
        choose_qt_platform()
        # GUI_NORMAL: no toolbar, and no menu with keys of its own.
        cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(self.title, *_window_size(rendered.shape[1], rendered.shape[0]))
        self._open = True

    def _check_display(self, wait_s: float = 0.0) -> None:
        """Wait ``wait_s`` seconds, outside of Qt: where the display ends, Qt ends the process, with all recordings."""
        if self._display is not None and not display_answers(self._display, wait_s):
            self._open = False  # closing the window would call Qt, too
            raise SinkError(f"{self.name} ended, the display does not answer any more: start a display again")

    def _release_display(self) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None

    def _wait_for(self, pts_s: float) -> None:
        """Return when a frame with the time ``pts_s`` is due, relative to the first shown frame."""
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
        paused_s = time.monotonic()
        while self._paused and not self._stop.is_set():
            self._handle_events(_PAUSED_MS)
        if self._start_s is not None:
            self._start_s += time.monotonic() - paused_s

    def _handle_events(self, wait_ms: int) -> None:
        """Process window events and keys for ``wait_ms``."""
        if self._display is not None and wait_ms > 1:
            self._check_display((wait_ms - 1) / 1e3)
            wait_ms = 1
        key = cv2.waitKey(wait_ms)
        if key >= 0 and key & 0xFF in _QUIT_KEYS:
            raise SinkClosed(f"{self.name}: quit by the viewer")
        if key >= 0 and key & 0xFF == _PAUSE_KEY:
            self._paused = not self._paused
        # Without this check, the next imshow would open a closed window again.
        if not self._visible():
            raise SinkClosed(f"{self.name}: closed by the viewer")

    def _visible(self) -> bool:
        try:
            return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False


def _square_pixels(image: Image, pixel_aspect: float) -> Image:
    """``image`` as wide or as high as it looks with square pixels; no pixel is lost."""
    if pixel_aspect == 1:
        return image
    height, width = image.shape[:2]
    size = (round(width * pixel_aspect), height) if pixel_aspect > 1 else (width, round(height / pixel_aspect))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def _window_size(width: int, height: int) -> tuple[int, int]:
    """Initial (W, H): the size of the image, scaled to fit a small screen or to be large enough to see."""
    scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
    scale = max(scale, min(_SMALLEST / max(width, height), 8.0))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check_opencv() -> None:
    if re.search(r"^\s*GUI:\s*NONE\s*$", cv2.getBuildInformation(), re.MULTILINE):
        raise SinkError(
            "this OpenCV cannot show windows: pip uninstall opencv-python-headless, "
            "pip install --force-reinstall opencv-python; or continue with --no-show"
        )


def _no_display() -> str:
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    problem = f"the display {display} does not answer" if display else "there is no display (DISPLAY is not set)"
    return f"no window can be shown, {problem}: continue with --no-show, or write a video with --output"
