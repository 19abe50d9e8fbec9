"""Which encoder of PyAV encodes a video, and with which options. A hardware encoder must first pass a test."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

import av
import av.codec
import av.error
import av.logging
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from rtseg.errors import SinkError
from rtseg.sinks.options import ENCODERS, PRESETS, RecordingOptions

__all__ = ["COLOUR_TAGS", "TICKS", "VideoEncoder", "choose_encoder", "video_frame"]

TICKS: Final = 90_000
"""Ticks per second of the clock. The frame times of 24, 25, 29.97, 30, 50, 59.94 and 60 fps are whole numbers."""

_SOFTWARE: Final = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
_DECODERS: Final = {"h264": "h264", "hevc": "hevc", "av1": "libdav1d"}
_HARDWARE: Final = tuple(name for name in ENCODERS if name not in ("auto", "software"))
_COMMON: Final = {"g": "600", "forced-idr": "1", "flags": "+frame_duration"}
"""Keyframes are set by time: a second is a different number of frames in every source."""

# What x264's `ultrafast` leaves out though it costs next to nothing. CPU per frame, size and luma PSNR of 100
# overlays of 960x540: ultrafast 2.3 ms, 1361 KiB, 45.5 dB; with these 2.6 ms, 1167 KiB, 46.0 dB; superfast
# 4.6 ms, 1242 KiB, 45.8 dB; veryfast 6.4 ms, 631 KiB, 43.6 dB.
_BETTER_ULTRAFAST: Final = "cabac=1:8x8dct=1:deblock=0,0"

# cv2's I420 is BT.601 in limited range. Without the tags many players guess BT.709 for large images.
COLOUR_TAGS: Final = {
    "colorspace": "smpte170m",
    "color_range": "tv",
    "color_primaries": "bt709",
    "color_trc": "bt709",
}
_FAST: Final = 12
"""Frames per second from which encoding on several threads delays by less than a third of a second."""
_TEST_SIZE: Final = (360, 640)
_TEST_FRAMES: Final = 12
_TEST_ERROR: Final = 16.0
"""Largest mean difference of the luma of the images of the test: a wrong plane or a green image differs by more."""


@dataclass(frozen=True, slots=True)
class VideoEncoder:
    """An encoder of PyAV and how it is set up."""

    codec: str
    """``h264``, ``hevc`` or ``av1``."""
    kind: str
    """One of ``ENCODERS``, but not ``auto``."""
    quality: int
    """See ``RecordingOptions.crf``."""
    preset: str = "ultrafast"
    """One of ``PRESETS``; hardware encoders have their own speed."""
    low_latency: bool = False
    """Whether every image leaves at once, at the cost of speed."""
    notice: str = ""
    """Why ``auto`` chose it."""

    @property
    def name(self) -> str:
        """As FFmpeg calls it, e.g. ``libx264``."""
        return _SOFTWARE[self.codec] if self.kind == "software" else f"{self.codec}_{self.kind}"

    def set_up(
        self, context: VideoCodecContext, size: tuple[int, int], *, rate: Fraction, pixel_aspect: Fraction
    ) -> None:
        """Configure a new ``context`` for images of ``size``, (H, W) in pixels.

        Args:
            context: of the encoder ``name``.
            size: of the images; an odd side is padded to the next even one.
            rate: frames per second, as a hint for the encoder and in the header.
            pixel_aspect: width of a pixel divided by its height, for players.
        """
        context.height, context.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        context.pix_fmt = "nv12" if self.kind == "qsv" else "yuv420p"
        context.framerate = rate
        context.sample_aspect_ratio = pixel_aspect
        context.time_base = Fraction(1, TICKS)
        # Frame threads: no loss of quality, unlike slices, but a frame of delay each: a crash would lose them.
        at_once = self.low_latency or rate < _FAST
        context.thread_count = 1 if at_once else min(4, os.cpu_count() or 1)
        context.options = self._options(at_once=at_once)

    def _options(self, *, at_once: bool) -> dict[str, str]:
        """No B-frames: closing takes no time, and with ``at_once`` a frame leaves the encoder when it comes."""
        crf = str(self.quality)
        own: dict[str, str]
        if self.kind == "nvenc":
            own = {"preset": "p4", "tune": "ll", "rc": "vbr", "cq": crf, "b": "0", "delay": "0", "bf": "0"}
        elif self.kind == "qsv":
            own = {"preset": "veryfast", "global_quality": crf, "async_depth": "1", "bf": "0"}
        elif self.kind == "amf":
            own = {"usage": "lowlatency", "rc": "cqp", "qp_i": crf, "qp_p": crf, "bf": "0"}
        elif self.codec == "av1":
            # SVT-AV1 writes to stderr, unless it is told so before it starts. 1: only errors.
            os.environ.setdefault("SVT_LOG", "1")
            own = {"preset": str(12 - PRESETS.index(self.preset)), "crf": crf, "svtav1-params": "pred-struct=1:rtc=1"}
        elif self.codec == "hevc":
            own = {"preset": self.preset, "crf": crf, "tune": "zerolatency", "x265-params": "log-level=none:keyint=600"}
        else:
            # force-cfr: x264 does not wait for the next frame to know how long this one lasts. Times are kept.
            params = [_BETTER_ULTRAFAST] * (self.preset == "ultrafast") + ["force-cfr=1"] * at_once
            own = {"preset": self.preset, "crf": crf, "bf": "0", "x264-params": ":".join(params)}
        return _COMMON | own | COLOUR_TAGS


def choose_encoder(options: RecordingOptions, label: str, preset: str = "ultrafast") -> VideoEncoder:
    """Return the encoder that ``options`` ask for. A hardware encoder has encoded images that were then decoded.

    Args:
        options: its ``codec``, ``encoder`` and ``quality`` count.
        label: how messages begin, e.g. ``video out.mp4``.
        preset: one of ``PRESETS``.

    Raises:
        SinkError: there is no such encoder here, or it does not work.
    """
    software = VideoEncoder(options.codec, "software", options.quality, preset)
    if options.encoder == "software":
        return _existing(software, label)
    kinds = _HARDWARE if options.encoder == "auto" else (options.encoder,)
    problems: list[str] = []
    for kind in kinds:
        encoder = VideoEncoder(options.codec, kind, options.quality, preset)
        problem = _test(encoder)
        if not problem:
            notice = f"{label} is encoded by {encoder.name}" if options.encoder == "auto" else ""
            return replace(encoder, notice=notice)
        problems.append(f"{kind}: {problem}")
    if options.encoder == "auto":
        notice = f"{label} is encoded by {software.name}: no hardware encoder works here"
        return _existing(replace(software, notice=notice), label)
    raise SinkError(f"{label} cannot be encoded by {'; '.join(problems)}: use --encoder software or auto")


def _existing(encoder: VideoEncoder, label: str) -> VideoEncoder:
    if _exists(encoder.name):
        return encoder
    if encoder.codec == "h264":
        raise SinkError(f"{label} cannot be written, this PyAV has no {encoder.name}: pip install --force-reinstall av")
    raise SinkError(f"{label} cannot be written, this PyAV has no {encoder.name}: use --codec h264")


def _exists(name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except ValueError:
        return False
    return True


@lru_cache
def _test(encoder: VideoEncoder) -> str:
    """Encode and decode a few images; return what is wrong, or an empty text."""
    if not _exists(encoder.name):
        return f"this PyAV has no {encoder.name}"
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            try:
                return _difference(encoder)
            except (av.error.FFmpegError, ValueError, OSError) as error:
                said = [text.strip() for _, _, text in messages if text.strip()]
                return said[0].rstrip(".") if said else str(getattr(error, "strerror", None) or error)
    finally:
        av.logging.set_level(level)


def _difference(encoder: VideoEncoder) -> str:
    """Return how decoded images differ from those that were encoded; an empty text if they do not."""
    images = [_test_image(number) for number in range(_TEST_FRAMES)]
    context = av.CodecContext.create(encoder.name, "w")
    assert isinstance(context, VideoCodecContext)
    encoder.set_up(context, _TEST_SIZE, rate=Fraction(25), pixel_aspect=Fraction(1))
    packets: list[Packet[Any]] = []
    for number, image in enumerate(images):
        frame = video_frame(image, context.pix_fmt or "yuv420p")
        frame.pts, frame.time_base = number * TICKS // 25, Fraction(1, TICKS)
        packets += context.encode(frame)
    packets += context.encode(None)
    decoder = av.CodecContext.create(_DECODERS[encoder.codec], "r")
    assert isinstance(decoder, VideoCodecContext)
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    if len(decoded) != len(images):
        return f"{len(decoded)} of {len(images)} images came back"
    rows, columns = _TEST_SIZE
    for image, frame in zip(images, decoded, strict=True):
        found = frame.to_ndarray(format="yuv420p").astype(float)
        if np.abs(found[:rows, :columns] - image[:rows]).mean() > _TEST_ERROR:
            return "the images that came back look different"
    return ""


def _test_image(number: int) -> NDArray[np.uint8]:
    """A moving gradient as I420, uint8 (1.5 H, W)."""
    rows, columns = _TEST_SIZE
    luma = 40 + (np.add.outer(np.arange(rows) // 4, np.arange(columns) // 4) + 3 * number) % 160
    return np.vstack([luma, np.full((rows // 2, columns), 110)]).astype(np.uint8)


def video_frame(i420: NDArray[np.uint8], pix_fmt: str = "yuv420p") -> av.VideoFrame:
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
    return frame if pix_fmt == "yuv420p" else frame.reformat(format=pix_fmt)
