"""Encodes H.264 for viewers who watch now: every frame leaves the encoder at once."""

from __future__ import annotations

from fractions import Fraction

import av
import av.codec
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from rtseg.frame import Image
from rtseg.sinks._encoders import COLOUR_TAGS, video_frame
from rtseg.system.opencv import cv2

__all__ = ["LiveEncoder"]

_TICKS = 1_000_000
_GOP_TICKS = _TICKS
"""Longest time between key frames, in ticks: one second."""
_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0", "g": "600", "forced-idr": "1", **COLOUR_TAGS}


class LiveEncoder:
    """Encodes the images of one size as H.264 in Annex B format, without B-frames. Use it on one thread.

    Each key frame is an IDR frame that carries the parameter sets, so that a decoder can start at any of them.

    Args:
        size: (H, W) of the images in pixels, both even.
        crf: quality of x264, 0 to 51.

    Raises:
        av.error.FFmpegError: the encoder refuses the size.
    """

    def __init__(self, size: tuple[int, int], *, crf: int = 23) -> None:
        self.size = size
        codec = av.codec.CodecContext.create("libx264", "w")
        assert isinstance(codec, VideoCodecContext)
        codec.height, codec.width = size
        codec.pix_fmt, codec.time_base = "yuv420p", Fraction(1, _TICKS)
        codec.framerate = Fraction(30)
        codec.thread_count = 1  # the stages of the run use the other cores
        codec.options = {**_OPTIONS, "crf": str(crf)}
        self._codec = codec
        self._pts = -1
        self._key_pts = -_GOP_TICKS

    def encode(self, image: Image, pts_s: float, *, key: bool = False) -> tuple[bytes, bool]:
        """Encode ``image``, uint8 BGR (H, W, 3), as one access unit; also return whether it is a key frame.

        Args:
            image: of the size of the encoder.
            pts_s: its time in the source, in seconds.
            key: whether it must be a key frame. One comes every second anyway.

        Raises:
            av.error.FFmpegError: the encoder fails.
        """
        pts = max(self._pts + 1, round(pts_s * _TICKS))
        self._pts = pts
        frame = video_frame(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8))
        frame.pts, frame.time_base = pts, Fraction(1, _TICKS)
        if key or pts - self._key_pts >= _GOP_TICKS:
            frame.pict_type = PictureType.I
            self._key_pts = pts
        packets = self._codec.encode(frame)
        return b"".join(bytes(packet) for packet in packets), any(packet.is_keyframe for packet in packets)
