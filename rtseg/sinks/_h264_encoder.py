"""One H.264 file in the making: the encoder, the container and the clock of its frames."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.system.atomic_files import PartFile
from rtseg.system.opencv import cv2

__all__ = ["FORMATS", "Recording"]

_TICKS: Final = 90_000
"""Of the clock, in a second: 24, 25, 29.97, 30, 50, 59.94 and 60 fps are whole numbers of them."""
_GOP_TICKS: Final = _TICKS
"""Longest time between images that stand for themselves: a second."""

# hybrid_fragmented: fragments while it is written, which survive a crash, and an ordinary MP4 once closed.
# Half-second fragments, each flushed at once, bound what a crash costs.
_MP4 = {"movflags": "hybrid_fragmented", "frag_duration": "500000", "flush_packets": "1"}
_MATROSKA = {"cluster_time_limit": "500", "flush_packets": "1"}

FORMATS: Final = {".mp4": ("mp4", _MP4), ".mov": ("mov", _MP4), ".mkv": ("matroska", _MATROSKA)}
"""Suffix of a file: the name of its format and the muxer's options."""

# What x264's `ultrafast` leaves out though it costs next to nothing. CPU per frame, size and luma PSNR of 100
# overlays of 960x540: ultrafast 2.3 ms, 1361 KiB, 45.5 dB; with these 2.6 ms, 1167 KiB, 46.0 dB; superfast
# 4.6 ms, 1242 KiB, 45.8 dB; veryfast 6.4 ms, 631 KiB, 43.6 dB.
_ULTRAFAST_MENDED = "cabac=1:8x8dct=1:deblock=0,0"

# cv2's I420 is BT.601 in limited range. Without the tags many players guess BT.709 for large images.
_COLOUR_TAGS = {
    "colorspace": "smpte170m",
    "color_range": "tv",
    "color_primaries": "bt709",
    "color_trc": "bt709",
}


class Recording:
    """Encodes images into a part file. One thread.

    Raises:
        OSError: the part file cannot be made.
        av.error.FFmpegError: the encoder refuses the size of the image.
    """

    def __init__(self, path: Path, size: tuple[int, int], *, rate: Fraction, crf: int, preset: str) -> None:
        """
        Args:
            path: the final name; its suffix is one of ``FORMATS``.
            size: (H, W) of the images, in pixels.
            rate: frames a second, as a hint for the encoder and in the header.
            crf: quality of x264.
            preset: speed of x264.
        """
        self.size = size
        self.rescaled = 0
        """Images that had another size."""
        self.file = PartFile(path)
        self._start_s: float | None = None
        self._pts = -1
        self._key_pts = -_GOP_TICKS
        format_name, muxing = FORMATS[path.suffix.lower()]
        # Through our own file: a full disk then raises its own OSError, and nothing is written after it.
        self._container = av.open(self.file, "w", format=format_name, options=muxing)
        self._stream = self._container.add_stream("libx264", rate=rate, options=_encoding(crf, preset))
        self._stream.height, self._stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        # Frame threads: one frame of delay each, and no quality lost, unlike slices.
        self._stream.codec_context.thread_count = min(4, os.cpu_count() or 1)

    def add(self, image: Image, pts_s: float) -> None:
        """Encode ``rendered``, uint8 BGR (H, W, 3), to be shown at ``pts_s`` seconds of the source's clock.

        Raises:
            OSError: the disk does not take it.
            av.error.FFmpegError: the encoder or the container does not.
        """
        frame = _video_frame(self._i420(image))
        if self._start_s is None:
            self._start_s = pts_s
        # Containers need times that rise; sources may repeat one.
        self._pts = max(self._pts + 1, round((pts_s - self._start_s) * _TICKS))
        frame.pts, frame.time_base = self._pts, Fraction(1, _TICKS)
        if self._pts - self._key_pts >= _GOP_TICKS:
            frame.pict_type = PictureType.I
            self._key_pts = self._pts
        self._container.mux(self._stream.encode(frame))
        self.file.mark()

    def finish(self) -> None:
        """Write what the encoder holds back and the index, and give the file its final name.

        Raises:
            OSError: the disk does not take it; the file up to here is still there.
            av.error.FFmpegError: as ``add``.
        """
        self._container.mux(self._stream.encode(None))
        self.file.mark()
        self._container.close()
        self.file.commit()

    def abandon(self) -> int:
        """End after a failure. The part file stays, as far as it is whole.

        Returns:
            How many frames can be played from it; 0 if it had none, and then it is removed.
        """
        self.file.broken = True
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self._container.close()
        if not self.file.keep():
            return 0
        frames = _count_frames(self.file.part)
        if not frames:
            self.file.part.unlink(missing_ok=True)
        return frames

    def _i420(self, image: Image) -> NDArray[np.uint8]:
        """``rendered`` as I420: uint8 (1.5 H, W) with both sides even."""
        height, width = self.size
        if image.shape[:2] != self.size:
            self.rescaled += 1
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        # 0.24 ms for 960x540, where libswscale takes 3.0 ms.
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)


def _video_frame(i420: NDArray[np.uint8]) -> av.VideoFrame:
    """The frame of ``i420``, uint8 (1.5 H, W) with both sides even.

    0.03 ms for 960x540. PyAV's own ``from_ndarray`` takes 0.11 ms, and its ``from_numpy_buffer`` (18.1) cuts
    a height of 34 to 32 and takes the colours from the wrong place.
    """
    rows, width = i420.shape
    frame = av.VideoFrame(width, rows * 2 // 3, "yuv420p")
    samples, start = i420.reshape(-1), 0
    for plane in frame.planes:
        end = start + plane.height * plane.width
        target = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        target[: plane.height, : plane.width] = samples[start:end].reshape(plane.height, plane.width)
        start = end
    return frame


def _encoding(crf: int, preset: str) -> dict[str, str]:
    options = {"preset": preset, "crf": str(crf), **_COLOUR_TAGS}
    # No B-frames: a frame leaves the encoder at once, and closing takes no time. Key frames come by the
    # clock (`add`), because a second is another number of frames in every source.
    options |= {"bf": "0", "g": "600", "forced-idr": "1"}
    if preset == "ultrafast":
        options["x264-params"] = _ULTRAFAST_MENDED
    return options


def _count_frames(path: Path) -> int:
    try:
        with av.open(path) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (av.error.FFmpegError, OSError, IndexError):
        return 0
