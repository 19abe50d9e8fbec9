"""Encodes an H.264 file: the encoder, the container and the timestamps of the frames."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType
from numpy.typing import NDArray

from rtseg.frame import Image
from rtseg.sinks._audio_copy import AudioCopy, AudioPackets
from rtseg.system.opencv import cv2
from rtseg.system.part_file import PartFile

__all__ = ["FORMATS", "Recording", "muxer_of"]

_TICKS: Final = 90_000
"""Ticks per second of the clock. The frame times of 24, 25, 29.97, 30, 50, 59.94 and 60 fps are whole numbers."""
_GOP_TICKS: Final = _TICKS
"""Longest time between keyframes: one second."""

# hybrid_fragmented: fragments while the file is written, which survive a crash, and an ordinary MP4 once closed.
# Half-second fragments, each flushed at once, limit what a crash costs.
_MP4 = {"movflags": "hybrid_fragmented", "frag_duration": "500000", "flush_packets": "1"}
_MATROSKA = {"cluster_time_limit": "500", "flush_packets": "1"}

FORMATS: Final = {".mp4": ("mp4", _MP4), ".mov": ("mov", _MP4), ".mkv": ("matroska", _MATROSKA)}
"""File suffix -> name of the format and options of the muxer."""

# What x264's `ultrafast` leaves out though it costs next to nothing. CPU per frame, size and luma PSNR of 100
# overlays of 960x540: ultrafast 2.3 ms, 1361 KiB, 45.5 dB; with these 2.6 ms, 1167 KiB, 46.0 dB; superfast
# 4.6 ms, 1242 KiB, 45.8 dB; veryfast 6.4 ms, 631 KiB, 43.6 dB.
_BETTER_ULTRAFAST = "cabac=1:8x8dct=1:deblock=0,0"

# cv2's I420 is BT.601 in limited range. Without the tags many players guess BT.709 for large images.
_COLOUR_TAGS = {
    "colorspace": "smpte170m",
    "color_range": "tv",
    "color_primaries": "bt709",
    "color_trc": "bt709",
}


def muxer_of(suffix: str, *, audio: bool) -> tuple[str, dict[str, str]]:
    """Name of the format and options of the muxer for files that end in ``suffix``."""
    format_name, options = FORMATS[suffix.lower()]
    if audio:
        # Where the audio has a gap or ends, the video does not wait for it longer than 0.1 s.
        options = options | {"max_interleave_delta": "100000"}
        if "movflags" in options:
            # The header then knows the first timestamps, so that an edit list can align audio and video.
            options["movflags"] += "+delay_moov"
    return format_name, options


class Recording:
    """Encodes images into a part file. Use it on one thread.

    Raises:
        OSError: the part file cannot be written.
        av.error.FFmpegError: the encoder refuses the size of the image.
    """

    def __init__(
        self,
        file: PartFile,
        size: tuple[int, int],
        *,
        rate: Fraction,
        pixel_aspect: Fraction,
        crf: int,
        preset: str,
        audio: AudioPackets | None = None,
    ) -> None:
        """
        Args:
            file: to write; the suffix of its final name is one of ``FORMATS``.
            size: (H, W) of the images, in pixels.
            rate: frames per second, as a hint for the encoder and in the header.
            pixel_aspect: width of a pixel divided by its height, for players.
            crf: quality of x264.
            preset: speed of x264.
            audio: to be copied, in a codec that the format can hold.
        """
        self.size = size
        self.rescaled = 0
        """Images that had another size."""
        self.fitted = ""
        """What was done with images of another size; empty if there were none."""
        self._pixel_aspect = pixel_aspect
        self.audio_failure = ""
        """Why the audio ends early; empty if it does not."""
        self.file = file
        self._start_s: float | None = None
        self._pts = -1
        self._step = round(_TICKS / rate)
        self._key_pts = -_GOP_TICKS
        format_name, options = muxer_of(file.path.suffix, audio=audio is not None)
        # Through our own file object: a full disk raises its own OSError, and nothing is written after it.
        self._container = av.open(self.file, "w", format=format_name, options=options)
        self._stream = self._container.add_stream("libx264", rate=rate, options=_encoder_options(crf, preset))
        self._stream.height, self._stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        # Frame threads: one frame of delay each, and no loss of quality, unlike slices.
        self._stream.codec_context.thread_count = min(4, os.cpu_count() or 1)
        self._audio = AudioCopy(self._container, audio, edit_list="movflags" in options) if audio else None

    def add(
        self, image: Image, pts_s: float, duration_s: float | None = None, pixel_aspect: Fraction | None = None
    ) -> None:
        """Encode ``image``, uint8 BGR (H, W, 3), to be shown at ``pts_s`` seconds on the source's clock.

        ``duration_s`` counts if no image follows; by default the last image lasts as long as the one before it.
        ``pixel_aspect`` is the width of its pixels divided by their height; by default that of the first image.

        Raises:
            OSError: the disk does not accept it.
            av.error.FFmpegError: the encoder or the container does not.
        """
        frame = _video_frame(self._i420(image, pixel_aspect or self._pixel_aspect))
        if self._start_s is None:
            self._start_s = pts_s
        # Containers need rising timestamps; sources may repeat one.
        pts = max(self._pts + 1, round((pts_s - self._start_s) * _TICKS))
        if self._pts >= 0:
            self._step = pts - self._pts
        self._pts = pts
        if duration_s is not None and duration_s > 0:
            self._step = max(1, round(duration_s * _TICKS))
        # Only the last frame needs a duration.
        frame.pts, frame.duration, frame.time_base = pts, self._step, Fraction(1, _TICKS)
        if pts - self._key_pts >= _GOP_TICKS:
            frame.pict_type = PictureType.I
            self._key_pts = pts
        self._write(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds, the rest of the audio and the index, and give the file its final name.

        Raises:
            OSError: the disk does not accept it; the file up to here is still there.
            av.error.FFmpegError: as ``add``.
        """
        self._write(self._stream.encode(None))
        self._copy_audio(self._pts + self._step)
        self._container.close()
        self.file.commit()

    def abandon(self) -> int:
        """End after a failure. The part file stays, as far as it is complete.

        Returns:
            How many frames can be played from it. If there are none, the file is removed.
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

    def _write(self, packets: list[Packet[Any]]) -> None:
        """Write encoded frames, each after the audio that comes before it."""
        for packet in packets:
            self._copy_audio(packet.pts or 0)
            self._mux(packet)
        self.file.mark()

    def _copy_audio(self, until_pts: int) -> None:
        if self._audio is None or self._start_s is None:
            return
        # Less half a tick, so that a packet at that very time is not taken because of rounding.
        for packet in self._audio.packets(self._start_s, self._start_s + (until_pts - 0.5) / _TICKS):
            self._mux(packet)
            if self._audio is None:
                return

    def _mux(self, packet: Packet[Any]) -> None:
        """Write ``packet``. If the container refuses something, that is taken for the audio, which then ends."""
        try:
            self._container.mux(packet)
        except av.error.FFmpegError as error:
            if self._audio is None or self.file.broken:
                raise
            # The muxer has dropped the packet that it refused, and keeps the others.
            self._audio, self.audio_failure = None, (error.strerror or type(error).__name__).lower()

    def _i420(self, image: Image, pixel_aspect: Fraction) -> NDArray[np.uint8]:
        """``image`` as I420: uint8 (1.5 H, W) with both sides even."""
        height, width = self.size
        if image.shape[:2] != self.size or pixel_aspect != self._pixel_aspect:
            self.rescaled += 1
            image = self._fit(image, float(pixel_aspect / self._pixel_aspect))
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        # 0.24 ms for 960x540; libswscale takes 3.0 ms.
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)

    def _fit(self, image: Image, stretch: float) -> Image:
        """Fit ``image``, whose pixels are ``stretch`` times as wide as those of the first, into the size of the first.

        Its shape is kept; the rest is black.
        """
        (height, width), (rows, columns) = self.size, image.shape[:2]
        scale = min(width / (columns * stretch), height / rows)
        inner = min(height, max(1, round(rows * scale))), min(width, max(1, round(columns * stretch * scale)))
        if not self.fitted:
            how = "scaled to it" if inner == self.size else "fitted into it with black borders"
            self.fitted = f"images of another size than the first, {width}x{height}, are {how}: now {columns}x{rows}"
        scaled = cv2.resize(image, inner[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        if inner == self.size:
            return scaled
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        fitted = np.zeros((height, width, 3), np.uint8)
        fitted[top : top + inner[0], left : left + inner[1]] = scaled
        return fitted


def _video_frame(i420: NDArray[np.uint8]) -> av.VideoFrame:
    """Copy ``i420``, uint8 (1.5 H, W) with both sides even, into a frame.

    Takes 0.03 ms for 960x540. PyAV's own ``from_ndarray`` takes 0.11 ms, and its ``from_numpy_buffer`` (18.1) cuts
    a height of 34 to 32 and reads the colours from the wrong rows.
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


def _encoder_options(crf: int, preset: str) -> dict[str, str]:
    options = {"preset": preset, "crf": str(crf), **_COLOUR_TAGS}
    # No B-frames: a frame leaves the encoder at once, and closing takes no time. Keyframes are set by time in
    # `add`, because a second is a different number of frames in every source.
    options |= {"bf": "0", "g": "600", "forced-idr": "1", "flags": "+frame_duration"}
    if preset == "ultrafast":
        options["x264-params"] = _BETTER_ULTRAFAST
    return options


def _count_frames(path: Path) -> int:
    try:
        with av.open(path) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (av.error.FFmpegError, OSError, IndexError):
        return 0
