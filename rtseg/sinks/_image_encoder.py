"""Encodes images of one size: their timestamps, keyframes and colours."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.sinks._encoders import TICKS, VideoEncoder, video_frame
from rtseg.sinks._fit import fit
from rtseg.system.opencv import cv2

__all__ = ["ImageEncoder"]

_GOP_TICKS: Final = TICKS
"""Longest time between keyframes: one second."""


class ImageEncoder:
    """Turns images into packets, with times that count from the first image. Use it on one thread.

    Args:
        encoder: which one, and its options.
        context: of that encoder, new; it is opened at the first image.
        size: (H, W) of the images, in pixels; images of another size are fitted into it.
        rate: frames per second, as a hint.
        pixel_aspect: width of a pixel divided by its height.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        context: VideoCodecContext,
        size: tuple[int, int],
        *,
        rate: Fraction,
        pixel_aspect: Fraction,
    ) -> None:
        encoder.set_up(context, size, rate=rate, pixel_aspect=pixel_aspect)
        self._context = context
        self.size = size
        self.pixel_aspect = pixel_aspect
        self.rescaled = 0
        """Images that had another size."""
        self.fitted = ""
        """What was done with images of another size; empty if there were none."""
        self.start_s: float | None = None
        """Time of the first image, on the clock of ``Frame.pts_s``."""
        self._pts = -1
        self._step = round(TICKS / rate)
        self._key_pts = -_GOP_TICKS

    @property
    def end_pts(self) -> int:
        """When the last image ends, in ticks."""
        return self._pts + self._step

    def encode(
        self, image: Image, pts_s: float, duration_s: float | None = None, pixel_aspect: Fraction | None = None
    ) -> list[Packet[Any]]:
        """Encode ``image``, uint8 BGR (H, W, 3), to be shown at ``pts_s`` seconds on the source's clock.

        ``duration_s`` counts if no image follows; by default the last image lasts as long as the one before it.
        ``pixel_aspect`` is the width of its pixels divided by their height; by default that of the first image.

        Raises:
            av.error.FFmpegError: the encoder fails.
        """
        frame = video_frame(self._i420(image, pixel_aspect or self.pixel_aspect), self._context.pix_fmt or "yuv420p")
        if self.start_s is None:
            self.start_s = pts_s
        # Containers need rising timestamps; sources may repeat one.
        pts = max(self._pts + 1, round((pts_s - self.start_s) * TICKS))
        if self._pts >= 0:
            self._step = pts - self._pts
        self._pts = pts
        if duration_s is not None and duration_s > 0:
            self._step = max(1, round(duration_s * TICKS))
        # Only the last frame needs a duration.
        frame.pts, frame.duration, frame.time_base = pts, self._step, Fraction(1, TICKS)
        if pts - self._key_pts >= _GOP_TICKS:
            frame.pict_type = PictureType.I
            self._key_pts = pts
        return self._context.encode(frame)

    def flush(self) -> list[Packet[Any]]:
        """The packets that the encoder still holds.

        Raises:
            av.error.FFmpegError: the encoder fails.
        """
        return self._context.encode(None)

    def _i420(self, image: Image, pixel_aspect: Fraction) -> NDArray[np.uint8]:
        """``image`` as I420: uint8 (1.5 H, W) with both sides even."""
        height, width = self.size
        if image.shape[:2] != self.size or pixel_aspect != self.pixel_aspect:
            self.rescaled += 1
            image = self._fit(image, float(pixel_aspect / self.pixel_aspect))
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        # 0.24 ms for 960x540; libswscale takes 3.0 ms.
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)

    def _fit(self, image: Image, stretch: float) -> Image:
        """Fit ``image``, whose pixels are ``stretch`` times as wide as those of the first, into the size of the first.

        Its shape is kept; the rest is black.
        """
        fitted, is_full = fit(image, self.size, stretch)
        if not self.fitted:
            (height, width), (rows, columns) = self.size, image.shape[:2]
            how = "scaled to it" if is_full else "fitted into it with black borders"
            self.fitted = f"images of another size than the first, {width}x{height}, are {how}: now {columns}x{rows}"
        return fitted
