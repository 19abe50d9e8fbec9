"""A recording: H.264 in MP4, MOV or Matroska, that plays even when the machine dies in the middle."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.codec
import av.error

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks._h264_encoder import FORMATS, Recording
from rtseg.sinks.base import Sink
from rtseg.system.atomic_files import check_writable, failure_reason

__all__ = ["PRESETS", "VideoSink", "describe_encoder"]

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""Speeds of x264, the fastest first."""


class VideoSink(Sink):
    """Writes the rendered images as H.264, each at the time that the source gave it.

    Times are kept to 1/90000 s (in Matroska to 1 ms) and count from the first frame; a frame that is not
    later than the one before it comes one tick after it. H.264 in 4:2:0 has even sides only: an odd image
    gets its last column or row twice. An image of another size than the first is scaled to that.

    While it is written the file is called ``NAME.part.SUFFIX``. After a crash or on a full disk that file
    stays, and plays up to half a second before the end.
    """

    kind = "video"

    def __init__(self, path: Path, *, fps_hint: float | None = None, crf: int = 23, preset: str = "ultrafast") -> None:
        """Check all that can be checked before the first frame; no file is made yet.

        Args:
            path: where to; ``.mp4``, ``.mov`` or ``.mkv``. An existing file is replaced at ``close``.
            fps_hint: the source's own rate, in frames a second. The times of the frames do not depend on it.
            crf: x264's quality, 0 (lossless) to 51; 23 is x264's own default, 6 more is half the size.
            preset: one of ``PRESETS``.

        Raises:
            OptionError: another suffix, an unknown preset, or ``crf`` out of range.
            SinkError: nothing can be written there.
        """
        if path.suffix.lower() not in FORMATS:
            raise OptionError(f"cannot write a video as {path.name!r}: end its name in {', '.join(FORMATS)}")
        if preset not in PRESETS:
            raise OptionError(f"unknown preset {preset!r}; known are {', '.join(PRESETS)}")
        if not 0 <= crf <= 51:
            raise OptionError(f"crf must be in 0..51, got {crf}")
        self.path = path
        self.name = f"video {path}"
        self._rate = _rate(fps_hint)
        self._crf = crf
        self._preset = preset
        self._recording: Recording | None = None
        self._failure: str | None = None
        self._closed = False
        _check_encoder(self.name)
        check_writable(path, self.name)

    @property
    def rescaled(self) -> int:
        """Frames that had another size than the first and were scaled to it."""
        return self._recording.rescaled if self._recording else 0

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Encode ``rendered``; see ``Sink``."""
        if rendered is None:
            raise ValueError(f"{self.name} needs the rendered image")
        if self._failure is not None:
            raise SinkError(self._failure)
        try:
            if self._recording is None:
                size = (rendered.shape[0], rendered.shape[1])
                self._recording = Recording(self.path, size, rate=self._rate, crf=self._crf, preset=self._preset)
            self._recording.add(rendered, frame.pts_s)
        except (av.error.FFmpegError, OSError) as error:
            raise self._fail(error) from error
        self.written += 1

    def close(self) -> None:
        """Finish the file and give it its name; see ``Sink``."""
        if self._closed:
            return
        self._closed = True
        if self._recording is None or self._failure is not None:
            return
        try:
            self._recording.finish()
        except (av.error.FFmpegError, OSError) as error:
            raise self._fail(error) from error

    def _fail(self, error: Exception) -> SinkError:
        """End the recording; the sentence that tells why and what is left."""
        kept = self._recording.abandon() if self._recording is not None else 0
        if self._recording is not None and kept:
            rest = f"{kept} frames are kept in {self._recording.file.part}"
        else:
            rest = "no frame is kept"
        self._failure = f"{self.name} ended, {failure_reason(error)}; {rest}. {_next_step(error)}"
        return SinkError(self._failure)


def _rate(fps_hint: float | None) -> Fraction:
    """``fps_hint`` as the fraction it stands for (29.97 is 30000/1001); 25 where it is of no use."""
    if fps_hint is None or not 1 <= fps_hint <= 1000:
        return Fraction(25)
    whole = round(fps_hint)
    for rate in (Fraction(whole), Fraction(whole * 1000, 1001)):
        if abs(float(rate) - fps_hint) < 0.005:
            return rate
    return Fraction(fps_hint).limit_denominator(1001)


def _next_step(error: Exception) -> str:
    if isinstance(error, OSError):
        return "Make room or choose another place"
    return "Try another --size, or a file of another suffix"


def describe_encoder() -> str:
    """What encodes video here, e.g. ``H.264 by libx264, FFmpeg 8.1.2``.

    Raises:
        SinkError: nothing does.
    """
    _check_encoder("video")
    return f"H.264 by libx264, FFmpeg {av.ffmpeg_version_info}"


def _check_encoder(name: str) -> None:
    try:
        av.codec.Codec("libx264", "w")
    except ValueError as error:
        raise SinkError(
            f"{name} cannot be written, this PyAV has no libx264: pip install --force-reinstall av"
        ) from error
