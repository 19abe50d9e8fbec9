"""Cameras, read with OpenCV."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import OptionError, SourceError, SourceNotFound
from rtseg.frame import Frame, Image
from rtseg.sources.base import Source, SourceOptions
from rtseg.system.opencv import cv2

__all__ = ["CameraSource", "Capture"]

_ASKABLE = {
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "fps": cv2.CAP_PROP_FPS,
}
_RETRY_S = 0.02
_MAX_FPS = 1000


class Capture(Protocol):
    """What a camera source needs of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        """Whether the device was opened. Stays True when it is unplugged."""

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """The next image, and whether there is one."""

    def get(self, prop: int, /) -> float:
        """The value of a property; 0 or less where it is not known."""

    def set(self, prop: int, value: float, /) -> bool:
        """Ask for a value of a property; the camera takes the nearest that it has, or none."""

    def release(self) -> None:
        """Close the device."""


class CameraSource(Source):
    """A camera: ``camera:0``, ``camera:/dev/video0``, ``camera:0?width=1280&height=720&fps=30&fourcc=MJPG``.

    What is asked for in the query is a wish: the camera takes the nearest mode that it has. Many USB cameras
    give large images at full rate only as ``fourcc=MJPG``.

    A camera that is unplugged or falls silent ends with SourceError after ``read_timeout_s``. On Linux one
    read, and with it ``stop``, takes 2 s at most while the camera is silent.
    """

    live = True

    def __init__(
        self,
        where: str | Path,
        options: SourceOptions,
        open_capture: Callable[[int | str], Capture] | None = None,
    ) -> None:
        """Name the camera; nothing is opened yet.

        Args:
            where: as above; ``camera`` alone is ``camera:0``.
            options: how long to wait.
            open_capture: opens the device with that number or path; for tests and other makes of camera.

        Raises:
            OptionError: the device or a wish in the query cannot be understood.
        """
        device, _, query = str(where).removeprefix("camera").removeprefix(":").partition("?")
        self._device: int | str = int(device or 0) if (device or "0").isdecimal() else device
        self._wishes = _wishes(str(where), query)
        self._open_capture = open_capture or _open_capture
        name = f"camera{self._device}" if isinstance(self._device, int) else f"camera-{Path(device).name}"
        super().__init__(re.sub(r"[^A-Za-z0-9._-]+", "_", name), options)

    def _read(self) -> Iterator[Frame]:
        capture = self._open_capture(self._device)
        try:
            if not capture.isOpened():
                raise SourceError(f"camera {self._device} cannot be opened: is another program using it? {_found()}")
            for prop, value in self._wishes:
                capture.set(prop, value)
            rate = capture.get(cv2.CAP_PROP_FPS)
            self.fps = rate if 0 < rate <= _MAX_FPS else None
            yield from self._frames(capture)
        finally:
            capture.release()

    def _frames(self, capture: Capture) -> Iterator[Frame]:
        first_s: float | None = None
        index = 0
        good_s = time.monotonic()
        while not self.stopped:
            image = self._next(capture)
            now_s = time.monotonic()
            if image is not None:
                first_s = now_s if first_s is None else first_s
                yield Frame(image, index, now_s - first_s, now_s)
                index += 1
                # After the yield: the time that the reader took is not the camera's.
                good_s = time.monotonic()
            elif now_s - good_s >= self.options.read_timeout_s:
                raise SourceError(
                    f"camera {self._device} stopped delivering: no frame for "
                    f"{self.options.read_timeout_s:g} s. Check its plug and start again"
                )
            else:
                # An unplugged camera answers at once: do not spin.
                self._stop.wait(_RETRY_S)

    def _next(self, capture: Capture) -> Image | None:
        """The next image, BGR, uint8 (H, W, 3); None where there is none."""
        try:
            good, image = capture.read()
        except cv2.error as error:
            raise SourceError(f"camera {self._device} failed ({error.err}): check its plug") from error
        if not good or image is None or image.size == 0:
            return None
        if image.ndim == 2 or image.shape[2] == 1:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
        return image


def _wishes(where: str, query: str) -> list[tuple[int, float]]:
    """The properties that ``query`` asks for, the pixel format first: it decides which sizes there are."""
    wishes: list[tuple[int, float]] = []
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "fourcc" and len(value) == 4:
            wishes.insert(0, (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*value.upper())))
        elif key in _ASKABLE and value.isdecimal() and int(value) > 0:
            wishes.append((_ASKABLE[key], int(value)))
        else:
            known = "width=1280, height=720, fps=30 or fourcc=MJPG"
            raise OptionError(f"{where}: {key}={value} is not understood; write {known}")
    return wishes


def _open_capture(device: int | str) -> Capture:
    """Open a camera of this machine.

    Raises:
        SourceNotFound: there is no such device.
    """
    if sys.platform.startswith("linux"):
        path = Path(f"/dev/video{device}" if isinstance(device, int) else device)
        # OpenCV would try every backend that it has, for seconds, and then only say no.
        if not path.exists():
            raise SourceNotFound(f"there is no camera {path}: {_found()}")
        return cv2.VideoCapture(str(path), cv2.CAP_V4L2)  # type: ignore[return-value]
    return cv2.VideoCapture(device)


def _found() -> str:
    """Which cameras there are, as the end of a sentence."""
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    return f"found {', '.join(devices)}" if devices else "no camera was found; plug one in"
