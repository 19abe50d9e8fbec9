"""Sends each frame, encoded once, together with its labels to everyone who watches now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

import av.error

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.image_io.decode import to_bgr
from rtseg.sinks._label_runs import code_runs
from rtseg.sinks._live_encoder import LiveEncoder
from rtseg.sinks.base import Sink
from rtseg.system.opencv import cv2

__all__ = ["BroadcastSink", "Listener", "LiveFrame"]

_LABELS_SIDE = 512
"""Longest side of the label map, in pixels. Networks predict no finer detail."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """A frame for viewers: the encoded image without labels, and the labels of exactly this frame."""

    index: int
    pts_s: float
    captured_s: float
    """``time.monotonic()`` of its capture, in seconds."""
    is_key: bool
    """Whether a decoder can start here."""
    chunk: bytes
    """One access unit of H.264 in Annex B format."""
    size: tuple[int, int]
    """(H, W) of the encoded image, in pixels."""
    labels: bytes
    """Class IDs, row by row, as runs; see ``code_runs``."""
    labels_size: tuple[int, int]
    """(H, W) of the labels, in pixels. They cover the whole image."""


Listener = Callable[[LiveFrame], None]
"""Gets each frame on the thread of the run, and must return at once."""


class BroadcastSink(Sink):
    """Encodes frames while somebody listens, and else only keeps the newest one.

    The image is sent as the source delivered it; viewers draw the labels themselves. Both are shrunk where they are
    large. Listeners may come and go at any time, from any thread; the next frame after one has come is a key frame.

    Args:
        name: used in messages.
        max_side: longest side of the encoded image, in pixels.
    """

    kind = "page"
    needs_rendered = False

    def __init__(self, name: str, *, max_side: int = 1280) -> None:
        self.name = name
        self._max_side = max_side
        self._lock = Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._key_wanted = False
        self._encoder: LiveEncoder | None = None
        self._watchers: tuple[Callable[[], None], ...] = ()
        self.clean: Callable[[Image, Labels], Image] | None = None
        """Makes the image that viewers may see, where they may not see all of it. Set it between two runs."""
        self.newest: tuple[Frame, Labels] | None = None
        """The last frame and its labels; None before the first one. Do not modify the arrays."""

    def add_listener(self, listener: Listener) -> None:
        """Send all frames from the next one on to ``listener``."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
            self._key_wanted = True

    def want_key_frame(self) -> None:
        """Make the next frame a key frame."""
        with self._lock:
            self._key_wanted = True

    def remove_listener(self, listener: Listener) -> None:
        """Send no more frames to ``listener``; does nothing if it is none."""
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def add_watcher(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher``, on the thread of the run, whenever there is another ``newest``."""
        with self._lock:
            self._watchers = (*self._watchers, watcher)

    def remove_watcher(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` no more."""
        with self._lock:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Encode ``frame`` and hand it to the listeners; see ``Sink``."""
        with self._lock:
            listeners, key = self._listeners, self._key_wanted
            self._key_wanted = False
        if self.clean is not None:
            frame = replace(frame, image=self.clean(frame.image, labels))
        if listeners:
            try:
                live = self._encode(frame, labels, key=key)
            except av.error.FFmpegError as error:
                raise SinkError(
                    f"{self.name} ended, a frame cannot be encoded ({error}): try another --size"
                ) from error
            for listener in listeners:
                listener(live)
        self.newest = frame, labels
        for watcher in self._watchers:
            watcher()
        self.written += 1

    def close(self) -> None:
        """Free the encoder; see ``Sink``."""
        self._encoder = None

    def _encode(self, frame: Frame, labels: Labels, *, key: bool) -> LiveFrame:
        size = _even_size(frame, self._max_side)
        image = to_bgr(frame.image)
        if image.shape[:2] != size:
            image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA).astype("uint8", copy=False)
        if self._encoder is None or self._encoder.size != size:
            self._encoder = LiveEncoder(size)
        chunk, is_key = self._encoder.encode(image, frame.pts_s, key=key)
        small = _shrink_labels(labels)
        return LiveFrame(
            frame.index,
            frame.pts_s,
            frame.captured_s,
            is_key,
            chunk,
            size,
            code_runs(small),
            (small.shape[0], small.shape[1]),
        )


def _even_size(frame: Frame, max_side: int) -> tuple[int, int]:
    """(H, W) for the encoder: square pixels, both sides even, the longest at most ``max_side``."""
    height, width = frame.image.shape[0], float(frame.image.shape[1] * frame.pixel_aspect)
    scale = min(1.0, max_side / max(height, width))
    rows, columns = (max(2, 2 * round(side * scale / 2)) for side in (height, width))
    return rows, columns


def _shrink_labels(labels: Labels) -> Labels:
    height, width = labels.shape
    scale = _LABELS_SIDE / max(height, width)
    if scale >= 1:
        return labels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).astype("uint8", copy=False)
