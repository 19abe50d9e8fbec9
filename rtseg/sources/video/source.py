"""Video files and streams, read with PyAV."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.errors import SourceError
from rtseg.frame import Frame
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions
from rtseg.sources.video.audio import AudioReader
from rtseg.sources.video.color import BgrConverter
from rtseg.sources.video.container import (
    LIVE_SCHEMES,
    find_video_stream,
    has_clock,
    is_encrypted,
    no_video_reason,
    open_file,
    open_url,
)
from rtseg.sources.video.decode import StreamDecoder, UrlPackets, file_packets
from rtseg.sources.video.seek import seconds, seek
from rtseg.sources.video.timestamps import FrameClock, stamp_arrivals
from rtseg.system.redact import find_secrets, redact, split_url

__all__ = ["VideoSource"]

_MAX_PIXELS = 2**27
_NOMINAL_FPS = 25.0
_MAX_FPS = 1000
_MAX_PIXEL_ASPECT = 16
_CHANNEL = re.compile(r"(channel|chan|ch|camera|cam|input|stream|subtype|profile|track|view)=\w{1,8}", re.IGNORECASE)
"""Fields of a query that tell the channels of a recorder apart."""
_ENCRYPTED = "encrypted, without a key in it: give a copy without copy protection (DRM)"
_MAX_REORDERED = 32
"""More packets than any decoder holds back."""

_Timing = Literal["pts", "dts", "arrival", "count"]
"""What the times of frames come from: stamps of the container, the clock of this machine, or a known frame rate."""


class VideoSource(Source):
    """A video file, or an http, https, rtsp, rtmp, tcp, udp, rtp (or srt, if PyAV supports it) URL.

    Frames come in presentation order, upright, each in the size in which it was coded, which may change within a
    stream. Frames that cannot be decoded are skipped and counted in ``damaged``. The missing end of a truncated file
    counts as one.

    Where the container has no timestamps (raw .h264, .mjpeg and the like), frames of a live source are stamped by their
    arrival. Those of a file follow ``options.fps``, else the rate in the video itself, else 25 fps, as ``notice`` says.

    A live source always ends with SourceError, after its frames, because its end means that the connection is lost.
    While no data arrives, the reading thread is blocked in C, and ``stop`` takes effect after at most
    ``read_timeout_s``.
    """

    def __init__(self, where: str | Path, options: SourceOptions) -> None:
        """Create the source. Iterating opens it.

        Args:
            where: a path, or a string with ``://`` for a URL.
            options: which part to read and how long to wait.
        """
        self._url = where if isinstance(where, str) and "://" in where else None
        self._path = Path(where)
        self._timing: _Timing = "pts"
        self._arrived_s = self._opening_s = 0.0
        if options.fps is not None:
            self.takes_fps = self._may_lack_clock(options)
        super().__init__(_url_name(self._url) if self._url else self._path.stem, options)
        # Name in messages: as the user wrote it, without the password.
        self._shown = redact(self._url, *find_secrets(self._url)) if self._url else str(where)
        self.live = self._url is not None and split_url(self._url).scheme.lower() in LIVE_SCHEMES

    def open_audio(self) -> AudioReader | None:
        """Open the audio of a local file; see ``Source``."""
        if self._url is not None:
            return None  # a server may count or refuse a second connection
        try:
            return AudioReader(self._path, self.options, self.pass_starts_s)
        except SourceError:  # there is no audio, or the video cannot be opened either, which is reported with it
            return None

    def _may_lack_clock(self, options: SourceOptions) -> bool:
        if self._url is not None:
            return split_url(self._url).scheme.lower() not in LIVE_SCHEMES
        with open_file(self._path, options) as container:
            return not has_clock(container)

    def _read(self) -> Iterator[Frame]:
        with self._open() as container:
            stream = self._select_stream(container)
            yield from self._convert_frames(container, stream)

    def _open(self) -> InputContainer:
        self._opening_s = time.monotonic()
        return open_url(self._url, self.options) if self._url else open_file(self._path, self.options)

    def _select_stream(self, container: InputContainer, threads: str = "AUTO") -> VideoStream:
        """Return the first video stream, ready to decode, but no cover image."""
        stream = find_video_stream(container)
        if stream is None:
            raise SourceError(f"{self._shown} {no_video_reason(container)}")
        if is_encrypted(container, stream):
            raise SourceError(f"{self._shown} is {_ENCRYPTED}")
        if self._url and not self.live:
            self.live = container.duration is None and container.size <= 0
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

    def _convert_frames(self, container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
        """Yield the frames from ``start_s`` on. Earlier ones are not converted."""
        convert = BgrConverter()
        aspect = _pixel_aspect(stream)
        start_s = 0.0 if self.live else self.options.start_s
        step_s = 1 / (self.fps or _NOMINAL_FPS)
        origin_s = None if self.live or self._timing != "pts" else seconds(stream.start_time, stream)
        clock = FrameClock(origin_s, step_s)
        if start_s and origin_s is not None:
            seek(container, stream, origin_s + start_s, step_s)
        index, last_s, damaged_before = 0, None, self.damaged
        decoded = 0
        for frame in self._decode(container, stream, can_seek=origin_s is not None or self._timing == "dts"):
            position_s = (decoded + self.damaged - damaged_before) * step_s
            time_s = clock(self._stamp_s(frame, stream, position_s))
            decoded += 1
            if time_s >= start_s - 1e-6:
                try:
                    image = convert(frame)
                except (av.FFmpegError, ValueError):  # ValueError: something that PyAV does not know
                    self._count_damaged()
                    decoded -= 1
                    continue
                upright = 1 / aspect if convert.transposed else aspect
                duration_s = seconds(frame.duration or None, stream) if self._timing == "pts" else None
                yield Frame(image, index, time_s, time.monotonic(), pixel_aspect=upright, duration_s=duration_s)
                index += 1
            last_s = time_s
        if self.stopped:
            return
        if last_s is None:
            raise SourceError(f"{self._shown}: no frame can be decoded: the video is damaged")
        length_s = _length_s(container, stream)
        if self.damaged == damaged_before and length_s - last_s - step_s > max(0.5, 0.05 * length_s):
            self._count_damaged()  # a file truncated between packets: count its missing end

    def _stamp_s(self, frame: VideoFrame, stream: VideoStream, position_s: float) -> float | None:
        if self._timing == "arrival":
            return self._arrived_s
        if self._timing == "count":
            return position_s
        return seconds(self._stamp(frame), stream)

    def _stamp(self, item: VideoFrame | Packet[Any]) -> int | None:
        return item.dts if self._timing == "dts" else item.pts

    def _decode(self, container: InputContainer, stream: VideoStream, *, can_seek: bool) -> Iterator[VideoFrame]:
        """Yield all good frames, then raise the error that ended the stream, if any."""
        decoder = StreamDecoder(stream, self._count_damaged, joined=self.live)
        if self._url:
            yield from self._decode_url(container, stream, decoder)
            return
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

    def _decode_url(
        self, container: InputContainer, stream: VideoStream, decoder: StreamDecoder
    ) -> Iterator[VideoFrame]:
        packets = UrlPackets(
            container, stream, shown=self._shown, live=self.live, timeout_s=self.options.read_timeout_s
        )
        # A frame has the time of its packet. Where frames are reordered, that is the one as many places before.
        arrivals: deque[float] = deque(maxlen=_MAX_REORDERED)
        stamped = (
            stamp_arrivals(packets, self._opening_s)
            if self._timing == "arrival"
            else ((packet, 0.0) for packet in packets)
        )
        for packet, arrived_s in stamped:
            if self.stopped:
                return
            self._refuse_encrypted(packet)
            arrivals.append(arrived_s)
            for frame in decoder.decode(packet):
                packets.restart_wait()
                self._arrived_s = arrivals[max(-len(arrivals), -1 - decoder.pending)]
                yield frame
        for frame in decoder.flush():
            self._arrived_s = arrivals[max(-len(arrivals), -1 - decoder.pending)]
            yield frame
        if packets.failure is not None and not self.stopped:
            raise packets.failure

    def _decode_tail(self, after: int | None) -> Iterator[VideoFrame]:
        """Decode the frames after the timestamp ``after`` again, without frame threads.

        With frame threads, a damaged packet near the end also loses the good frames that are still in the decoder.
        Without them, every error belongs to the current packet.
        """
        with self._open() as container:
            stream = self._select_stream(container, threads="SLICE")
            after_s = seconds(after, stream)
            if after_s is not None:
                seek(container, stream, after_s, 1 / (self.fps or _NOMINAL_FPS))
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


def _url_name(url: str) -> str:
    """Host and last part of the path, or the port: a short name for files, without password."""
    # The URLs of some cameras contain the password in the path.
    parts = split_url(redact(url))
    # Not parts.hostname, which fails for an incomplete IPv6 address; brackets and colons are replaced below.
    address = parts.netloc.rpartition("@")[2]
    port = address.rpartition(":")[2] if re.search(r":\d+$", address) else ""
    host = address.removesuffix(f":{port}").strip("[]")
    last = parts.path.rstrip("/").rpartition("/")[2] or port
    # Two channels of one recorder differ in the query alone.
    query = split_url(url).query
    channel = [f"{key}_{value}" for key, value in parse_qsl(query) if _CHANNEL.fullmatch(f"{key}={value}")]
    name = "-".join(filter(None, (host or parts.scheme, last, *channel)))
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:80] or parts.scheme
