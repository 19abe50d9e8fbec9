"""Video files, read with PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.errors import SourceError
from rtseg.frame import Frame, Image
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions
from rtseg.sources.video.audio import AudioReader
from rtseg.sources.video.color import BgrConverter
from rtseg.sources.video.container import (
    find_video_stream,
    has_clock,
    is_encrypted,
    no_video_reason,
    open_file,
)
from rtseg.sources.video.decode import StreamDecoder, file_packets
from rtseg.sources.video.seek import seconds, seek
from rtseg.sources.video.timestamps import FrameClock

__all__ = ["OpenedVideo", "Timing", "VideoSource"]

_MAX_PIXELS = 2**27
_NOMINAL_FPS = 25.0
_MAX_FPS = 1000
_MAX_PIXEL_ASPECT = 16
_ENCRYPTED = "encrypted, without a key in it: give a copy without copy protection (DRM)"

Timing = Literal["pts", "dts", "arrival", "count"]
"""What the times of frames come from: stamps of the container, the clock of this machine, or a known frame rate."""


@dataclass(frozen=True, slots=True)
class OpenedVideo:
    """What is needed of an open video to convert its frames."""

    stream: VideoStream
    time_base: Fraction
    """Unit of its timestamps, in seconds."""
    origin_s: float | None
    """Timestamp of the start, in seconds; None if it is that of the first frame."""
    pixel_aspect: Fraction
    length_s: float
    """As the container states it; 0 if it does not."""

    def seconds(self, stamp: int | None) -> float | None:
        """Convert a timestamp to seconds."""
        return None if stamp is None else float(stamp * self.time_base)


class VideoSource(Source):
    """A video file.

    Frames come in presentation order, upright, each in the size in which it was coded, which may change within a
    stream. Frames that cannot be decoded are skipped and counted in ``damaged``. The missing end of a truncated file
    counts as one.

    Where the container has no timestamps (raw .h264, .mjpeg and the like), they follow ``options.fps``, else the rate
    in the video itself, else 25 fps, as ``notice`` says.
    """

    def __init__(self, where: str | Path, options: SourceOptions, *, name: str | None = None) -> None:
        """Create the source. Iterating opens it.

        Args:
            where: its path.
            options: which part to read.
            name: see ``Source``; by default that of the file.
        """
        self._path = Path(where)
        self._shown = str(where)
        """Its name in messages."""
        self._timing: Timing = "pts"
        if options.fps is not None:
            self.takes_fps = self._may_lack_clock(options)
        super().__init__(self._path.stem if name is None else name, options)

    def open_audio(self) -> AudioReader | None:
        """Open the audio of a local file; see ``Source``."""
        try:
            return AudioReader(self._path, self.options, self.pass_starts_s)
        except SourceError:  # there is no audio, or the video cannot be opened either, which is reported with it
            return None

    def _may_lack_clock(self, options: SourceOptions) -> bool:
        with open_file(self._path, options) as container:
            return not has_clock(container)

    def _read(self) -> Iterator[Frame]:
        with open_file(self._path, self.options) as container:
            video = self._prepare(container)
            can_seek = video.origin_s is not None or self._timing == "dts"
            yield from self._convert_frames(video, self._decode(container, video.stream, can_seek=can_seek))

    def _prepare(self, container: InputContainer) -> OpenedVideo:
        """Choose the stream of an open container and seek to ``start_s``."""
        stream = self._select_stream(container)
        origin_s = None if self.live or self._timing != "pts" else seconds(stream.start_time, stream)
        length_s = _length_s(container, stream)
        if self.options.start_s and origin_s is not None:
            seek(container, stream, origin_s + self.options.start_s, self._step_s)
        return OpenedVideo(stream, stream.time_base or Fraction(1), origin_s, _pixel_aspect(stream), length_s)

    @property
    def _step_s(self) -> float:
        """Nominal time between two frames, in seconds."""
        return 1 / (self.fps or _NOMINAL_FPS)

    def _select_stream(self, container: InputContainer, threads: str = "AUTO") -> VideoStream:
        """Return the first video stream, ready to decode, but no cover image."""
        stream = find_video_stream(container)
        if stream is None:
            raise SourceError(f"{self._shown} {no_video_reason(container)}")
        if is_encrypted(container, stream):
            raise SourceError(f"{self._shown} is {_ENCRYPTED}")
        self.live = self.live or self._is_live(container)
        # Frame threads use all cores but delay some frames, which a live source must not.
        stream.codec_context.thread_type = "SLICE" if self.live else threads
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        self.fps = _frame_rate(stream)
        if has_clock(container):
            # AVI stores decoding times only; the pts of PyAV are those, reordered.
            self._timing = "dts" if container.format.name == "avi" else "pts"
            if self.options.fps is not None:
                raise self._fps_error()
        else:
            self._replace_clock(stream)
        if not self.live:
            length_s = (container.duration or 0) / av.time_base
            self.frame_count = stream.frames or round(length_s * (self.fps or 0)) or None
        return stream

    def _is_live(self, container: InputContainer) -> bool:
        return False

    def _replace_clock(self, stream: VideoStream) -> None:
        """Choose the times of a stream whose container has none. Those that FFmpeg assumes are for 25 fps."""
        rate = stream.codec_context.framerate
        self.fps = float(rate) if rate and 1 <= rate <= _MAX_FPS else None
        if self.live:
            self._timing = "arrival"
            if self.options.fps is not None:
                raise self._fps_error()
            return
        self._timing = "pts" if self.fps and self.options.fps is None else "count"
        if not self.fps and self.options.fps is None:
            self.notice = (
                f"{self._shown} has no timestamps: {_NOMINAL_FPS:g} frames per second are assumed; "
                "--fps gives another rate"
            )
        self.fps = self.options.fps or self.fps or _NOMINAL_FPS

    def _convert_frames(self, video: OpenedVideo, frames: Iterator[VideoFrame]) -> Iterator[Frame]:
        """Yield the frames from ``start_s`` on. Earlier ones are not converted."""
        convert = BgrConverter()
        start_s, step_s = self.options.start_s, self._step_s
        clock = FrameClock(video.origin_s, step_s)
        index, last_s, damaged_before = 0, None, self.damaged
        decoded = 0
        for frame in frames:
            position_s = (decoded + self.damaged - damaged_before) * step_s
            time_s = clock(position_s if self._timing == "count" else video.seconds(self._stamp(frame)))
            decoded += 1
            if time_s >= start_s - 1e-6:
                image = self._convert(convert, frame)
                if image is None:
                    decoded -= 1
                    continue
                aspect = 1 / video.pixel_aspect if convert.transposed else video.pixel_aspect
                duration_s = video.seconds(frame.duration or None) if self._timing == "pts" else None
                yield Frame(image, index, time_s, time.monotonic(), pixel_aspect=aspect, duration_s=duration_s)
                index += 1
            last_s = time_s
        if self.stopped:
            return
        if last_s is None:
            raise SourceError(f"{self._shown}: no frame can be decoded: the video is damaged")
        if self.damaged == damaged_before and video.length_s - last_s - step_s > max(0.5, 0.05 * video.length_s):
            self._count_damaged()  # a file truncated between packets: count its missing end

    def _convert(self, convert: BgrConverter, frame: VideoFrame) -> Image | None:
        """The image of ``frame``; None if it is damaged, which is counted."""
        try:
            return convert(frame)
        except (av.FFmpegError, ValueError):  # ValueError: something that PyAV does not know
            self._count_damaged()
            return None

    def _stamp(self, item: VideoFrame | Packet[Any]) -> int | None:
        return item.dts if self._timing == "dts" else item.pts

    def _decode(self, container: InputContainer, stream: VideoStream, *, can_seek: bool) -> Iterator[VideoFrame]:
        """Yield all good frames."""
        decoder = StreamDecoder(stream, self._count_damaged)
        last: VideoFrame | None = None
        for packet in file_packets(container, stream, self._count_damaged):
            if self.stopped:
                return
            self._refuse_encrypted(packet)
            for last in decoder.decode(packet):
                yield last
        for last in decoder.flush():
            yield last
        if decoder.lost and can_seek and not self.stopped and (last is None or self._stamp(last) is not None):
            yield from self._decode_tail(None if last is None else self._stamp(last))

    def _decode_tail(self, after: int | None) -> Iterator[VideoFrame]:
        """Decode the frames after the timestamp ``after`` again, without frame threads.

        With frame threads, a damaged packet near the end also loses the good frames that are still in the decoder.
        Without them, every error belongs to the current packet.
        """
        with open_file(self._path, self.options) as container:
            stream = self._select_stream(container, threads="SLICE")
            after_s = seconds(after, stream)
            if after_s is not None:
                seek(container, stream, after_s, self._step_s)
            is_new = False

            def count() -> None:
                if is_new:
                    self._count_damaged()

            decoder = StreamDecoder(stream, count)
            for packet in file_packets(container, stream, count):
                if self.stopped:
                    return
                stamp = self._stamp(packet)
                is_new = after is None or stamp is None or stamp > after
                yield from (f for f in decoder.decode(packet) if self._is_after(f, after))
            yield from (f for f in decoder.flush() if self._is_after(f, after))

    def _is_after(self, frame: VideoFrame, after: int | None) -> bool:
        stamp = self._stamp(frame)
        return after is None or (stamp is not None and stamp > after)

    def _refuse_encrypted(self, packet: Packet[Any]) -> None:
        if packet.has_sidedata("encryption_info"):
            raise SourceError(f"{self._shown} is {_ENCRYPTED}")

    def _count_damaged(self) -> None:
        self.damaged += 1


def _length_s(container: InputContainer, stream: VideoStream) -> float:
    """Length of ``stream`` as stated by the container, in seconds; 0 if it is not stated."""
    length_s = seconds(stream.duration, stream)
    if length_s is None and len(container.streams) == 1:
        # With several streams, the length of the file may be that of the audio.
        length_s = (container.duration or 0) / av.time_base
    return length_s or 0.0


def _frame_rate(stream: VideoStream) -> float | None:
    """The nominal frame rate; None if the container states none or an absurd one."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= _MAX_FPS:
            return float(rate)
    return None


def _pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a stored pixel divided by its height; 1 if unknown or absurd."""
    aspect = stream.sample_aspect_ratio
    return aspect if aspect and 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else Fraction(1)
