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
    """A video file, or an http, https, rtsp, rtmp, tcp, udp, rtp (or srt, if PyAV supports it) URL.

    Frames come in presentation order, upright, each in the size in which it was coded, which may change within a
    stream. Frames that cannot be decoded are skipped and counted in ``damaged``. The missing end of a truncated file
    counts as one.

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
        super().__init__(_url_name(self._url) if self._url else self._path.stem, options)
        # Name in messages: as the user wrote it, without the password.
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
            stream = self._select_stream(container)
            yield from self._convert_frames(container, stream)

    def _open(self) -> InputContainer:
        return open_url(self._url, self.options) if self._url else open_file(self._path, self.options)

    def _select_stream(self, container: InputContainer, threads: str = "AUTO") -> VideoStream:
        """Return the first video stream, ready to decode, but no cover image."""
        stream = find_video_stream(container)
        if stream is None:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise SourceError(f"{self._shown} contains no video that can be decoded, only {kinds}: give a video file")
        if self._url and not self.live:
            self.live = container.duration is None and container.size <= 0
        # Frame threads use all cores but delay some frames, which a live source must not.
        stream.codec_context.thread_type = "SLICE" if self.live else threads
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        self.fps = _frame_rate(stream)
        if not self.live:
            length_s = (container.duration or 0) / av.time_base
            self.frame_count = stream.frames or round(length_s * (self.fps or 0)) or None
        return stream

    def _convert_frames(self, container: InputContainer, stream: VideoStream) -> Iterator[Frame]:
        """Yield the frames from ``start_s`` on. Earlier ones are not converted."""
        convert = BgrConverter()
        # AVI stores decoding times only; the pts of PyAV are those, reordered.
        by_dts = container.format.name == "avi"
        start_s = 0.0 if self.live else self.options.start_s
        step_s = 1 / (self.fps or _NOMINAL_FPS)
        origin_s = None if self.live or by_dts else seconds(stream.start_time, stream)
        clock = FrameClock(origin_s, step_s)
        if start_s and origin_s is not None:
            seek(container, stream, origin_s + start_s, step_s)
        index, last_s, damaged_before = 0, None, self.damaged
        for frame in self._decode(container, stream, can_seek=origin_s is not None):
            time_s = clock(seconds(frame.dts if by_dts else frame.pts, stream))
            if time_s >= start_s - 1e-6:
                try:
                    image = convert(frame)
                except av.FFmpegError:
                    self._count_damaged()
                    continue
                yield Frame(image, index, time_s, time.monotonic())
                index += 1
            last_s = time_s
        if self.stopped:
            return
        if last_s is None:
            raise SourceError(f"{self._shown}: no frame can be decoded: the video is damaged")
        length_s = _length_s(container, stream)
        if self.damaged == damaged_before and length_s - last_s - step_s > max(0.5, 0.05 * length_s):
            self._count_damaged()  # a file truncated between packets: count its missing end

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
            for last in decoder.decode(packet):
                yield last
        for last in decoder.flush():
            yield last
        if decoder.lost and can_seek and not self.stopped and (last is None or last.pts is not None):
            yield from self._decode_tail(None if last is None else last.pts)

    def _decode_url(
        self, container: InputContainer, stream: VideoStream, decoder: StreamDecoder
    ) -> Iterator[VideoFrame]:
        packets = UrlPackets(
            container, stream, shown=self._shown, live=self.live, timeout_s=self.options.read_timeout_s
        )
        for packet in packets:
            if self.stopped:
                return
            for frame in decoder.decode(packet):
                packets.restart_wait()
                yield frame
        yield from decoder.flush()
        if packets.failure is not None and not self.stopped:
            raise packets.failure

    def _decode_tail(self, after_pts: int | None) -> Iterator[VideoFrame]:
        """Decode the frames after ``after_pts`` again, without frame threads.

        With frame threads, a damaged packet near the end also loses the good frames that are still in the decoder.
        Without them, every error belongs to the current packet.
        """
        with self._open() as container:
            stream = self._select_stream(container, threads="SLICE")
            after_s = seconds(after_pts, stream)
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
                is_new = after_pts is None or packet.pts is None or packet.pts > after_pts
                yield from (f for f in decoder.decode(packet) if _is_after(f, after_pts))
            yield from (f for f in decoder.flush() if _is_after(f, after_pts))

    def _count_damaged(self) -> None:
        self.damaged += 1


def _is_after(frame: VideoFrame, pts: int | None) -> bool:
    return pts is None or (frame.pts is not None and frame.pts > pts)


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


def _url_name(url: str) -> str:
    """Host and last part of the path, or the port: a short name for files, without password."""
    # The URLs of some cameras contain the password in the path.
    parts = urlsplit(redact(url))
    # Not parts.hostname, which fails for an incomplete IPv6 address; brackets and colons are replaced below.
    address = parts.netloc.rpartition("@")[2]
    port = address.rpartition(":")[2] if re.search(r":\d+$", address) else ""
    host = address.removesuffix(f":{port}").strip("[]")
    last = parts.path.rstrip("/").rpartition("/")[2] or port
    name = "-".join(filter(None, (host or parts.scheme, last)))
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:80] or parts.scheme
