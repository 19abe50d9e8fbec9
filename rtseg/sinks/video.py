"""Writes video in MP4, MOV or Matroska that can be played even after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import av.error

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks._audio_copy import AudioPackets, can_hold
from rtseg.sinks._encoders import TICKS, VideoEncoder, choose_encoder
from rtseg.sinks._recording import FORMATS, Recording, can_hold_video, muxer_of
from rtseg.sinks.base import Sink
from rtseg.sinks.options import PRESETS, RecordingOptions
from rtseg.system.atomic_files import failure_reason, is_disk_full
from rtseg.system.part_file import PartFile

__all__ = ["VideoSink", "check_video", "describe_encoder", "nearest_rate", "wall_clock_s"]


class VideoSink(Sink):
    """Encodes the rendered images, each at its time in the source.

    Times are exact to 1/90000 s (in Matroska to 1 ms) and count from the first frame. A frame that is not later
    than the previous one is written one tick after it. 4:2:0 needs even sides: the last column or row of
    an odd image is repeated. An image of another size than the first is fitted into the size of the first, with
    black borders where its shape differs, and ``notice`` says so. Pixels that are not square stay so, and the file
    tells players their shape.

    Audio is copied packet by packet, without encoding it again, from the first frame to the end of the last one.
    It never fails the video: if the format cannot hold its codec, or refuses a packet, ``notice`` says so.

    While it is written the file is called ``NAME.part.SUFFIX``. After a crash or on a full disk that file
    remains, and can be played up to half a second before the end.
    """

    kind = "video"

    def __init__(
        self,
        path: Path,
        *,
        fps_hint: float | Callable[[], float | None] | None = None,
        crf: int | None = None,
        preset: str = "ultrafast",
        codec: str = "h264",
        encoder: str = "software",
        audio: AudioPackets | None = None,
        live: bool = False,
        exact_end: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Check everything that can be checked before the first frame, and create the part file.

        Args:
            path: the file to write: ``.mp4``, ``.mov`` or ``.mkv``.
            fps_hint: nominal frame rate of the source, in frames per second, or what returns it at the first frame.
                Frame times do not depend on it.
            crf: quality, 0 to 51, for AV1 to 63: 6 more halves the size; by default 23, for HEVC 28, for AV1 35.
            preset: one of ``PRESETS``.
            codec: ``h264``, ``hevc`` or ``av1``.
            encoder: one of ``ENCODERS``.
            audio: to be copied into the file. ``close`` closes it.
            live: whether frames come from a camera or stream; then the header has the time of the first one.
            exact_end: whether ``end`` will say how long the last frame lasts; each frame is then written one later.
            overwrite: whether an existing file may be replaced; it stays until ``close``.

        Raises:
            OptionError: another suffix, an unknown preset, or ``crf`` out of range.
            OutputExists: there is such a file, and it must not be replaced.
            SinkError: the file cannot be written, another run is writing it, or the encoder does not work here.
        """
        if preset not in PRESETS:
            raise OptionError(f"unknown preset {preset!r}; known are {', '.join(PRESETS)}")
        self.path = path
        self.name = f"video {path}"
        self._fps_hint = fps_hint
        self._live = live
        self._exact_end = exact_end
        self._recording: Recording | None = None
        self._failure: str | None = None
        self._closed = False
        self._encoder = check_video(path, RecordingOptions(codec, crf, encoder), self.name, preset)
        self._file = PartFile(path, self.name, overwrite=overwrite)
        self._audio_notice = ""
        self._audio = audio
        if audio is not None and not can_hold(audio, *muxer_of(path.suffix, audio=True)):
            self._audio_notice = f"{self.name} has no audio: {_audio_advice(audio, path.suffix)}"
            audio.close()
            self._audio = None

    @property
    def notice(self) -> str:
        """See ``Sink``."""
        fitted = self._recording.images.fitted if self._recording else ""
        notices = (self._encoder.notice, self._file.notice, self._audio_notice, fitted and f"{self.name}: {fitted}")
        return "\n".join(filter(None, notices))

    @property
    def file(self) -> PartFile:
        """The file that is written."""
        return self._file

    @property
    def length_s(self) -> float:
        """Length of the file so far, in seconds."""
        return self._recording.end_pts / TICKS if self._recording else 0.0

    @property
    def has_audio(self) -> bool:
        """Whether it copies audio."""
        return self._audio is not None

    @property
    def rescaled(self) -> int:
        """Frames that had another size than the first and were fitted into it."""
        return self._recording.images.rescaled if self._recording else 0

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Encode ``rendered``; see ``Sink``."""
        if rendered is None:
            raise ValueError(f"{self.name} needs the rendered image")
        if self._failure is not None:
            raise SinkError(self._failure)
        try:
            if self._recording is None:
                self._recording = self._begin(frame, rendered)
            self._recording.add(rendered, frame.pts_s, frame.duration_s, frame.pixel_aspect)
        except (av.error.FFmpegError, OSError) as error:
            raise self._fail(error) from error
        self.written += 1

    def _begin(self, frame: Frame, rendered: Image) -> Recording:
        fps = self._fps_hint() if callable(self._fps_hint) else self._fps_hint
        return Recording(
            self._file,
            (rendered.shape[0], rendered.shape[1]),
            rate=nearest_rate(fps),
            pixel_aspect=frame.pixel_aspect,
            encoder=self._encoder,
            audio=self._audio,
            began_s=wall_clock_s(frame) if self._live else None,
            exact_end=self._exact_end,
        )

    def close(self) -> None:
        """Finish the file and give it its name; see ``Sink``."""
        try:
            self.end()
        finally:
            if self._audio is not None:
                self._audio.close()

    def end(self, end_s: float | None = None) -> None:
        """Like ``close``, but leave the audio open, for another file.

        Args:
            end_s: where the last frame ends, on the clock of ``Frame.pts_s``; needs ``exact_end``.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._recording is None:
                self._file.keep()
            elif self._failure is None:
                self._recording.finish(end_s)
                self._note_lost_audio(self._recording)
        except (av.error.FFmpegError, OSError) as error:
            raise self._fail(error) from error

    def _note_lost_audio(self, recording: Recording) -> None:
        if recording.audio_failure:
            self._audio_notice = f"{self.name}: the audio ends early, a packet was refused ({recording.audio_failure})"
        elif self._audio is not None and self._audio.damaged:
            self._audio_notice = f"{self.name}: {self._audio.damaged} damaged packets of the audio were skipped"

    def _fail(self, error: Exception) -> SinkError:
        """End the recording; the error says why, and what is left."""
        kept = self._recording.abandon() if self._recording is not None else self._file.keep()
        rest = f"{kept} frames are kept in {self._file.part}" if kept else "no frame is kept"
        self._failure = f"{self.name} ended, {failure_reason(error)}; {rest}. {_next_step(error)}"
        return SinkError(self._failure)


def check_video(path: Path, options: RecordingOptions, label: str, preset: str = "ultrafast") -> VideoEncoder:
    """Return the encoder of a video file.

    Raises:
        OptionError: the suffix of ``path`` is unknown, or files with it cannot hold the codec.
        SinkError: the encoder does not work here; the message begins with ``label``.
    """
    if path.suffix.lower() not in FORMATS:
        raise OptionError(f"cannot write a video as {path.name!r}: end its name in {', '.join(FORMATS)}")
    if not can_hold_video(path.suffix, options.codec):
        raise OptionError(f"{path.name} cannot hold {options.codec}: end its name in .mp4 or .mkv")
    return choose_encoder(options, label, preset)


def wall_clock_s(frame: Frame) -> float:
    """``time.time()`` of the capture of ``frame``."""
    return time.time() - max(0.0, time.monotonic() - frame.captured_s)


def nearest_rate(fps_hint: float | None) -> Fraction:
    """``fps_hint`` as the exact fraction (29.97 is 30000/1001); 25 if it is missing or implausible."""
    if fps_hint is None or not 1 <= fps_hint <= 1000:
        return Fraction(25)
    whole = round(fps_hint)
    for rate in (Fraction(whole), Fraction(whole * 1000, 1001)):
        if abs(float(rate) - fps_hint) < 0.005:
            return rate
    return Fraction(fps_hint).limit_denominator(1001)


def _audio_advice(audio: AudioPackets, suffix: str) -> str:
    """Why files with ``suffix`` cannot hold the audio, and which files can."""
    able = [other for other in reversed(FORMATS) if can_hold(audio, *muxer_of(other, audio=True))]
    hint = f"write {able[0]} to keep it" if able else f"{', '.join(FORMATS)} cannot either"
    return f"{suffix} cannot hold {audio.stream.codec_context.name}; {hint}"


def _next_step(error: Exception) -> str:
    if isinstance(error, OSError):
        return "Free some space or choose another folder" if is_disk_full(error) else "Choose another name or folder"
    return "Try another --size, or another file suffix"


def describe_encoder() -> str:
    """Name the video encoder and its version, e.g. ``H.264 by libx264, FFmpeg 8.1.2``.

    Raises:
        SinkError: there is none.
    """
    return f"H.264 by {choose_encoder(RecordingOptions(), 'video').name}, FFmpeg {av.ffmpeg_version_info}"
