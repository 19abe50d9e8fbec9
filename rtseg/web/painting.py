"""Images with labels that the server draws: snapshots, and the MJPEG stream for browsers without WebCodecs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from threading import Lock

from rtseg.errors import OptionError
from rtseg.frame import Frame, Image, Labels
from rtseg.system.opencv import cv2
from rtseg.visualize.overlay import Overlay, OverlayOptions
from rtseg.web.source_run import SourceRun
from rtseg.web.threads import WorkThreads

__all__ = ["BOUNDARY", "Painter", "encode_jpeg", "mjpeg_parts"]

BOUNDARY = "rtseg-frame"
_QUALITY = 85
_LONGEST_WAIT_S = 5.0
"""Between two parts of a stream; the last image is then sent again, so that a lost viewer is noticed."""


class Painter:
    """Draws the newest frame of a source as JPEG, once for all who want the same. Any thread may call it."""

    def __init__(self, source: SourceRun) -> None:
        self.source = source
        self._lock = Lock()
        self._drawn: dict[OverlayOptions, tuple[Frame, bytes]] = {}

    def paint(self, options: OverlayOptions) -> bytes | None:
        """The newest frame as JPEG; None before the first one.

        Raises:
            OptionError: a hidden class is none of the model.
        """
        with self._lock:
            newest = self.source.sink.newest
            if newest is None:
                return None
            frame, labels = newest
            if options in self._drawn and self._drawn[options][0] is frame:
                return self._drawn[options][1]
            jpeg = self._paint(frame, labels, options)
            self._drawn = {key: value for key, value in self._drawn.items() if value[0] is frame}
            self._drawn[options] = frame, jpeg
            return jpeg

    def _paint(self, frame: Frame, labels: Labels, options: OverlayOptions) -> bytes:
        spec = self.source.spec
        if labels.max(initial=0) != 255 and labels.max(initial=0) >= len(spec.classes):
            raise OptionError("the model has just changed: try again")
        return encode_jpeg(Overlay(spec, options).draw(frame.image, labels))


def encode_jpeg(image: Image) -> bytes:
    """Encode ``image``, uint8 BGR (H, W, 3)."""
    is_encoded, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert is_encoded, "OpenCV encodes every BGR image as JPEG"
    return jpeg.tobytes()


async def mjpeg_parts(
    source: SourceRun, painter: Painter, options: OverlayOptions, threads: WorkThreads
) -> AsyncIterator[bytes]:
    """Yield the parts of a ``multipart/x-mixed-replace`` answer: always the newest frame when one was sent.

    A slow viewer gets fewer images, and none that is old.
    """
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(arrived.set)

    source.sink.add_watcher(wake)
    try:
        while not source.is_stopped:
            arrived.clear()
            jpeg = await threads.run(painter.paint, options)
            if jpeg is not None:
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
            try:
                await asyncio.wait_for(arrived.wait(), _LONGEST_WAIT_S)
            except TimeoutError:
                continue
    finally:
        source.sink.remove_watcher(wake)
