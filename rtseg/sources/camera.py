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

from rtseg.errors import OptionError, SourceError, SourceNotFound, SourceStalled
from rtseg.frame import Frame, Image
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions
from rtseg.system.opencv import cv2

__all__ = ["CameraSource", "Capture", "find_cameras"]

_PROPERTIES = {
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "fps": cv2.CAP_PROP_FPS,
}
_ON_LINUX = sys.platform.startswith("linux")
_BY_ID = Path("/dev/v4l/by-id")
_RETRY_S = 0.02
_MAX_FPS = 1000
_MAX_DIGITS = 6
"""Of a requested width, height or rate."""
_MAX_DEVICE_LENGTH = 255
"""Of a file name in Linux."""


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that a camera source uses."""

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        """Whether the device was opened. Remains True after it is unplugged."""

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """Whether there is a next image, and the image."""

    def get(self, prop: int, /) -> float:
        """The value of a property; 0 or less if it is unknown."""

    def set(self, prop: int, value: float, /) -> bool:
        """Request a value of a property. The camera uses the nearest supported value, or ignores the request."""

    def release(self) -> None:
        """Close the device."""


class CameraSource(Source):
    """A camera: ``camera:0``, ``camera:/dev/video0``, ``camera:0?width=1280&height=720&fps=30&fourcc=MJPG``.

    The values in the query are requests: the camera uses its nearest mode. Many USB cameras deliver large images at
    full rate only with ``fourcc=MJPG``.

    A camera that is unplugged or stops sending frames ends with SourceError after ``read_timeout_s``. On Linux one
    read, and so ``stop``, takes at most 2 s while no frame comes.
    """

    live = True
    takes_fps = True

    def __init__(
        self,
        where: str | Path,
        options: SourceOptions,
        open_capture: Callable[[int | str], Capture] | None = None,
    ) -> None:
        """Parse the name of the camera. Iterating opens it.

        Args:
            where: as above; ``camera`` alone is ``camera:0``.
            options: how long to wait.
            open_capture: opens the device with a number or path; for tests and for cameras with another API.

        Raises:
            OptionError: ``where`` contains an unknown request.
        """
        device, _, query = str(where).removeprefix("camera").removeprefix(":").partition("?")
        if "://" in device or "@" in device:
            raise OptionError("camera: is followed by a number or a device, not by a URL: give the URL alone")
        if len(device) > (_MAX_DIGITS if device.isdecimal() else _MAX_DEVICE_LENGTH):
            raise OptionError(f"{device[:20]}.. is not a camera: write camera:0 or camera:/dev/video0")
        self._device: int | str = int(device or 0) if (device or "0").isdecimal() else device
        self._requests = _parse_requests(str(where), query)
        if options.fps is not None:
            self._requests.append((cv2.CAP_PROP_FPS, options.fps))
        self._open_capture = open_capture or _open_capture
        self._stable: Path | None = None
        """A name that stays when the camera is plugged in again and gets another number."""
        name = f"camera{self._device}" if isinstance(self._device, int) else f"camera-{Path(device).name}"
        super().__init__(re.sub(r"[^A-Za-z0-9._-]+", "_", name), options)

    def probe(self) -> bool | None:
        """Whether the camera is plugged in; only Linux tells."""
        return _find_device(self._device, self._stable).exists() if _ON_LINUX else None

    def _read(self) -> Iterator[Frame]:
        if _ON_LINUX and self._stable is None:
            self._stable = _stable_name(self._device)
        device = self._device if self._stable is None else str(self._stable.resolve())
        capture = self._open_capture(device)
        try:
            if not capture.isOpened():
                raise SourceError(
                    f"camera {self._device} cannot be opened: is another program using it? {_list_cameras()}"
                )
            for prop, value in self._requests:
                capture.set(prop, value)
            rate = capture.get(cv2.CAP_PROP_FPS)
            self.fps = rate if 0 < rate <= _MAX_FPS else None
            yield from self._frames(capture)
        finally:
            capture.release()

    def _frames(self, capture: Capture) -> Iterator[Frame]:
        first_s: float | None = None
        index = 0
        last_frame_s = time.monotonic()
        while not self.stopped:
            image = self._next(capture)
            now_s = time.monotonic()
            if image is not None:
                first_s = now_s if first_s is None else first_s
                yield Frame(image, index, now_s - first_s, now_s)
                index += 1
                # After the yield, because the time that the consumer took does not count.
                last_frame_s = time.monotonic()
            elif now_s - last_frame_s >= self.options.read_timeout_s:
                raise SourceStalled(
                    f"camera {self._device} stopped sending frames: none for {self.options.read_timeout_s:g} s. "
                    "Check its cable and start again"
                )
            else:
                # An unplugged camera returns immediately: do not spin.
                self._stop.wait(_RETRY_S)

    def _next(self, capture: Capture) -> Image | None:
        """The next image, BGR, uint8 (H, W, 3); None if there is none."""
        try:
            succeeded, image = capture.read()
        except cv2.error as error:
            raise SourceError(f"camera {self._device} failed ({error.err}): check its cable") from error
        if not succeeded or image is None or image.size == 0:
            return None
        if image.ndim == 2 or image.shape[2] == 1:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
        return image


def _parse_requests(where: str, query: str) -> list[tuple[int, float]]:
    """The properties that ``query`` requests. The pixel format comes first: the available sizes depend on it."""
    requests: list[tuple[int, float]] = []
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "fourcc" and len(value) == 4 and value.isascii():
            requests.insert(0, (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*value.upper())))
        elif key in _PROPERTIES and len(value) <= _MAX_DIGITS and value.isdecimal() and int(value) > 0:
            requests.append((_PROPERTIES[key], int(value)))
        else:
            known = "width=1280, height=720, fps=30 or fourcc=MJPG"
            raise OptionError(f"{where[:200]}: {key}={value[:20]} is unknown; write {known}")
    return requests


def _open_capture(device: int | str) -> Capture:
    """Open a camera of this machine.

    Raises:
        SourceNotFound: there is no such device.
    """
    if sys.platform.startswith("linux"):  # written so that type checkers understand it
        path = _find_device(device)
        # OpenCV would try each of its backends, for seconds, and only report a failure.
        if not path.exists():
            raise SourceNotFound(f"there is no camera {path}: {_list_cameras()}")
        return cv2.VideoCapture(str(path), cv2.CAP_V4L2)  # type: ignore[return-value]
    return cv2.VideoCapture(device)


def _stable_name(device: int | str) -> Path | None:
    """The name of ``device`` by its serial number; None if it has none."""
    path = _find_device(device)
    links = _BY_ID.iterdir() if _BY_ID.is_dir() else ()
    return next((link for link in sorted(links) if path.exists() and link.resolve() == path.resolve()), None)


def _find_device(device: int | str, stable: Path | None = None) -> Path:
    """The path of a camera, by its ``stable`` name where that exists."""
    if stable is not None:
        return stable
    return Path(f"/dev/video{device}" if isinstance(device, int) else device)


def find_cameras() -> list[str]:
    """The cameras of this machine as ``/dev/video0``; only Linux lists them."""
    return sorted(str(path) for path in Path("/dev").glob("video*"))


def _list_cameras() -> str:
    """The cameras of this machine, as the end of a message."""
    devices = find_cameras()
    return f"found {', '.join(devices)}" if devices else "no camera was found; connect one"
