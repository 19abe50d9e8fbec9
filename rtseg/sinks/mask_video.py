"""Class IDs as a lossless video."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.sinks.base import Sink
from rtseg.system.atomic_files import failure_reason
from rtseg.system.opencv import cv2
from rtseg.system.part_file import PartFile

__all__ = ["MaskVideoSink"]

_TICKS: Final = 1000
"""Ticks per second of Matroska."""
# Clusters of half a second, each flushed at once, limit what a crash costs.
_MATROSKA: Final = {"cluster_time_limit": "500", "flush_packets": "1"}
# Every frame on its own, so that any frame can be read alone, with a checksum for each slice.
_FFV1: Final = {"level": "3", "g": "1", "slicecrc": "1", "slices": "4"}


class MaskVideoSink(Sink):
    """Writes an FFV1 video of grey values: each pixel is the class ID, 255 is void.

    Times count from the first frame and are exact to 1 ms. The tag ``CLASSES`` of the file is a JSON list of the class
    names. A frame of another size than the first is fitted into that size by nearest neighbours, with void around it.

    While it is written the file is called ``NAME.part.mkv``, and can be read up to half a second before a crash.
    """

    kind = "masks"
    needs_rendered = False

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        *,
        fps_hint: Callable[[], float | None] = lambda: None,
        overwrite: bool = False,
    ) -> None:
        """Create the part file.

        Args:
            path: the file to write, ``.mkv``.
            spec: of the model that makes the labels.
            fps_hint: returns the nominal frame rate of the source, for the header. Frame times do not depend on it.
            overwrite: whether an existing file may be replaced.

        Raises:
            OutputExists: there is such a file, and it must not be replaced.
            SinkError: it cannot be written, or another run is writing it.
        """
        self.path = path
        self.name = f"masks {path}"
        self._classes = spec.classes
        self._fps_hint = fps_hint
        self._file = PartFile(path, self.name, overwrite=overwrite)
        self._container: Any = None
        self._stream: VideoStream | None = None
        self._start_s = 0.0
        self._pts = -1
        self._fitted = 0
        self._failure: str | None = None
        self._closed = False

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        fitted = f"{self.name}: {self._fitted} frames of another size are fitted into the first" if self._fitted else ""
        return "\n".join(filter(None, (self._file.notice, fitted)))

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Encode the labels of one frame; see ``Sink``."""
        if self._failure is not None:
            raise SinkError(self._failure)
        try:
            if self._stream is None:
                self._stream = self._open(labels.shape[0], labels.shape[1])
                self._start_s = frame.pts_s
            picture = av.VideoFrame.from_ndarray(self._fit(self._stream, labels), format="gray")
            picture.color_range = 2  # full: the values are not scaled
            # Matroska needs rising timestamps; sources may repeat one.
            self._pts = max(self._pts + 1, round((frame.pts_s - self._start_s) * _TICKS))
            picture.pts, picture.time_base = self._pts, Fraction(1, _TICKS)
            self._mux(self._stream.encode(picture))
        except (av.error.FFmpegError, OSError) as error:
            raise self._fail(error) from error
        self.written += 1

    def close(self) -> None:
        """Finish the file and give it its name; see ``Sink``."""
        if self._closed:
            return
        self._closed = True
        if self._stream is None:
            self._file.keep()
        if self._stream is None or self._failure is not None:
            return
        try:
            self._mux(self._stream.encode(None))
            self._container.close()
            self._file.commit()
        except (av.error.FFmpegError, OSError) as error:
            raise self._fail(error) from error

    def _open(self, height: int, width: int) -> VideoStream:
        # Through our own file object: a full disk raises its own OSError, and nothing is written after it.
        self._container = av.open(self._file, "w", format="matroska", options=_MATROSKA)
        self._container.metadata["CLASSES"] = json.dumps(self._classes, ensure_ascii=False)
        rate = Fraction(self._fps_hint() or 25).limit_denominator(1001)
        stream: VideoStream = self._container.add_stream("ffv1", rate=rate, options=_FFV1)
        stream.height, stream.width, stream.pix_fmt = height, width, "gray"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.color_range = 2
        return stream

    def _fit(self, stream: VideoStream, labels: Labels) -> Labels:
        height, width = stream.height, stream.width
        if labels.shape == (height, width):
            return labels
        self._fitted += 1
        scale = min(height / labels.shape[0], width / labels.shape[1])
        inner_height, inner_width = (max(1, round(scale * length)) for length in labels.shape)
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
        fitted = np.full((height, width), VOID, np.uint8)
        inner = cv2.resize(labels, (inner_width, inner_height), interpolation=cv2.INTER_NEAREST_EXACT)
        fitted[top : top + inner_height, left : left + inner_width] = inner
        return fitted

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            self._container.mux(packet)
        self._file.mark()

    def _fail(self, error: Exception) -> SinkError:
        self._file.broken = True
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self._container.close()
        kept = f"{self.written} frames are kept in {self._file.part}" if self._file.keep() else "no frame is kept"
        reason = failure_reason(error)
        self._failure = f"{self.name} ended, {reason}; {kept}. Free some space or choose another path"
        return SinkError(self._failure)
