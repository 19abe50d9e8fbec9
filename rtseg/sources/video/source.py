"""Video files and streams, read with PyAV."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.errors import SourceError
from rtseg.frame import Frame
from rtseg.sources.base import Source, SourceOptions
from rtseg.sources.video.audio import AudioReader
from rtseg.sources.video.color import BgrConverter
from rtseg.sources.video.container import LIVE_SCHEMES, find_video_stream, open_file, open_url
from rtseg.sources.video.decode import StreamDecoder, UrlPackets, file_packets
from rtseg.sources.video.seek import seconds, seek
from rtseg.sources.video.timestamps import FrameClock
from rtseg.system.redact import find_secrets, redact

__all__ = ["VideoSource"]

_MAX_PIXELS = 2**27
_NOMINAL_FPS = 25.0
_MAX_FPS = 1000


class VideoSource(Source):
    """A video file, or an http, https, rtsp, rtmp, tcp, udp, rtp (and, where PyAV has it, srt) URL.

    Frames come as the video shows them: in order of presentation, upright, each in the size in which it was
    coded (a stream may change its size on the way). What cannot be decoded is skipped and counted in
    ``damaged``; so is the missing end of a file that was cut off, as one.

    A live source ends with SourceError, after its frames: its end means that the peer is gone. While a peer
    is silent the reading thread sits in C: ``stop`` then takes effect after ``read_timeout_s`` at most.
    """

    def __init__(self, where: str | Path, options: SourceOptions) -> None:
        """Name the source; nothing is opened yet.

        Args:
            where: a path, or a text with ``://`` in it for a URL.
            options: which part to read and how long to wait.
        """
        self._url = where if isinstance(where, str) and "://" in where else None
        self._path = Path(where)
        super().__init__(_url_name(self._url) if self._url else self._path.stem, options)
        # What messages call it: as the user wrote it, less the password.
        self._shown = redact(self._url, *find_secrets(self._url)) if self._url else str(where)
        self.live = self._url is not None and urlsplit(self._url).scheme.lower() in LIVE_SCHEMES

    def open_audio(self) -> AudioReader | None:
        """Open the audio of a local file; see ``Source``."""
        if self._url is not None:
            return None  # a server may count or refuse a second connection
        try:
            return AudioReader(self._path, self.options, self.pass_starts_s)
        except SourceError:  # there is no audio, or the video cannot be opened either, which is reported with it
            return None

    def _read(self) -> Iterator[Frame]:
        with self._open() as container:
            stream = self._choose(container)
            yield from self._images(container, stream)

    def _open(self) -> InputContainer:
        return open_url(self._url, self.options) if self._url else open_file(self._path, self.options)

    def _choose(self, container: InputContainer, threads: str = "AUTO") -> VideoStream:
        """The first true video stream, ready to decode; the cover image of a song is none."""
        stream = find_video_stream(container)
        if stream is None:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing at all"
            raise SourceError(f"{self._shown} holds no video that can be decoded, only {kinds}: give a video")
        if self._url and not self.live:
            self.live = container.duration is None and container.size <= 0
        # Frame threads use all cores at the price of some frames of delay; a live image must not wait.
        stream.codec_context.thread_type = "SLICE" if self.live else threads
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        self.fps = _frame_rate(stream)
        if not self.live:
            length_s = (container.duration or 0) / av.time_base
            self.frame_count = stream.frames or round(length_s * (self.fps or 0)) or None
        return stream

    def _images(self, container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
        """The frames from ``start_s`` on, with image and time. What comes before is not converted."""
        convert = BgrConverter()
        # AVI keeps the times of decoding only; PyAV's pts are those, shuffled.
        by_dts = container.format.name == "avi"
        start_s = 0.0 if self.live else self.options.start_s
        step_s = 1 / (self.fps or _NOMINAL_FPS)
        origin_s = None if self.live or by_dts else seconds(stream.start_time, stream)
        clock = FrameClock(origin_s, step_s)
        if start_s and origin_s is not None:
            seek(container, stream, origin_s + start_s, step_s)
        index, time_s, damaged = 0, None, self.damaged
        for frame in self._decoded(container, stream, can_seek=origin_s is not None):
            at_s = clock(seconds(frame.dts if by_dts else frame.pts, stream))
            if at_s >= start_s - 1e-6:
                try:
                    image = convert(frame)
                except av.FFmpegError:
                    self._count_damaged()
                    continue
                yield Frame(image, index, at_s, time.monotonic())
                index += 1
            time_s = at_s
        if self.stopped:
            return
        if time_s is None:
            raise SourceError(f"{self._shown}: not one frame can be decoded: the video is damaged")
        length_s = _length_s(container, stream)
        if self.damaged == damaged and length_s - time_s - step_s > max(0.5, 0.05 * length_s):
            self._count_damaged()  # cut off cleanly: the missing end

    def _decoded(self, container: InputContainer, stream: VideoStream, *, can_seek: bool) -> Iterator[VideoFrame]:
        """All good frames, then the failure (if any) that ended them."""
        decoder = StreamDecoder(stream, self._count_damaged, joined=self.live)
        if self._url:
            yield from self._decoded_url(container, stream, decoder)
            return
        last: VideoFrame | None = None
        for packet in file_packets(container, stream, self._count_damaged):
            if self.stopped:
                return
            for last in decoder.decode(packet):
                yield last
        for last in decoder.flush():
            yield last
        if decoder.lost and can_seek and not self.stopped and (last is None or last.pts is not None):
            yield from self._tail(None if last is None else last.pts)

    def _decoded_url(
        self, container: InputContainer, stream: VideoStream, decoder: StreamDecoder
    ) -> Iterator[VideoFrame]:
        packets = UrlPackets(
            container, stream, shown=self._shown, live=self.live, timeout_s=self.options.read_timeout_s
        )
        for packet in packets:
            if self.stopped:
                return
            for frame in decoder.decode(packet):
                packets.frame_came()
                yield frame
        yield from decoder.flush()
        if packets.failure is not None and not self.stopped:
            raise packets.failure

    def _tail(self, after_pts: int | None) -> Iterator[VideoFrame]:
        """The frames after ``after_pts`` to the end of the file, decoded anew and without frame threads.

        With frame threads a bad packet near the end takes the good frames with it that are still in the
        decoder. Without them every error belongs to the packet just given.
        """
        with self._open() as container:
            stream = self._choose(container, threads="SLICE")
            after_s = seconds(after_pts, stream)
            if after_s is not None:
                seek(container, stream, after_s, 1 / (self.fps or _NOMINAL_FPS))
            late = False

            def count() -> None:
                if late:
                    self._count_damaged()

            decoder = StreamDecoder(stream, count)
            for packet in file_packets(container, stream, count):
                if self.stopped:
                    return
                late = after_pts is None or packet.pts is None or packet.pts > after_pts
                yield from (f for f in decoder.decode(packet) if _is_after(f, after_pts))
            yield from (f for f in decoder.flush() if _is_after(f, after_pts))

    def _count_damaged(self) -> None:
        self.damaged += 1


def _is_after(frame: VideoFrame, pts: int | None) -> bool:
    return pts is None or (frame.pts is not None and frame.pts > pts)


def _length_s(container: InputContainer, stream: VideoStream) -> float:
    """How long the container says that ``stream`` is, in seconds; 0 where it says nothing."""
    length_s = seconds(stream.duration, stream)
    if length_s is None and len(container.streams) == 1:
        # With sound beside it the length of the whole may be that of the sound.
        length_s = (container.duration or 0) / av.time_base
    return length_s or 0.0


def _frame_rate(stream: VideoStream) -> float | None:
    """The nominal frame rate; None where the container has none or a nonsensical one."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= _MAX_FPS:
            return float(rate)
    return None


def _url_name(url: str) -> str:
    """Host and last part of the path (or the port): short, without password, fit for a file name."""
    # Some cameras want the password in the path.
    parts = urlsplit(redact(url))
    # Not parts.hostname, which fails on a half-written IPv6 address; brackets and colons go below.
    place = parts.netloc.rpartition("@")[2]
    port = place.rpartition(":")[2] if re.search(r":\d+$", place) else ""
    host = place.removesuffix(f":{port}").strip("[]")
    last = parts.path.rstrip("/").rpartition("/")[2] or port
    name = "-".join(filter(None, (host or parts.scheme, last)))
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:80] or parts.scheme
