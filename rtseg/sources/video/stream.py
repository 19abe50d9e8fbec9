"""Streams and files on servers, read with PyAV on a thread of their own."""

from __future__ import annotations

import re
import struct
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any
from urllib.parse import parse_qsl

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from rtseg.errors import SourceError, SourceStalled
from rtseg.frame import Frame
from rtseg.sources.options import SourceOptions
from rtseg.sources.read_thread import NothingRead, ReadEnded, ReadThread
from rtseg.sources.video.audio import AudioReader
from rtseg.sources.video.color import BgrConverter
from rtseg.sources.video.container import LIVE_SCHEMES, PLAYLISTS, ffmpeg_reason, open_url
from rtseg.sources.video.decode import StreamDecoder
from rtseg.sources.video.silence import PROBE_S, SilenceWatch
from rtseg.sources.video.source import OpenedVideo, VideoSource
from rtseg.sources.video.timestamps import Pacer, StreamClock, stamp_arrivals, take_early
from rtseg.system.redact import find_secrets, redact, split_url
from rtseg.system.server_probe import server_probe

__all__ = ["StreamSource"]

_CHANNEL = re.compile(r"(channel|chan|ch|camera|cam|input|stream|subtype|profile|track|view)=\w{1,8}", re.IGNORECASE)
"""Fields of a query that tell the channels of a recorder apart."""
_MAX_REORDERED = 32
"""More packets than any decoder holds back."""
_WAITING_PACKETS = 300
"""Packets that may wait for the decoder."""
_MAX_WAIT_S = 0.1
"""Age of a live image, in seconds, above which newer ones that are there already take its place."""
_MAX_SKIPPING_S = 0.5
"""After so long without an image, in seconds, an old one is better than none: decoding is slower than the stream."""
_SOCKET_S = 0.01
"""A packet that waits in a socket is read within this time."""
_FIRST_FRAME_S = 8.0
"""Longest wait, in seconds, for the first frame of a stream that is joined between two keyframes."""


@dataclass(slots=True)
class _TimedPacket:
    packet: Packet[Any]
    captured_s: float
    time_s: float | None
    """In the stream; None if it has no timestamp."""


class StreamSource(VideoSource):
    """An http, https, rtsp, rtmp, tcp, udp, rtp (or srt, if PyAV supports it) URL.

    A thread of its own reads the packets as soon as they arrive, because those that wait in a socket get old unseen.
    Frames of a live source are stamped by the clock of the stream, mapped to the clock of this machine. Where decoding
    or the reader of the frames is too slow, frames are skipped, up to the newest one that can be decoded; see
    ``dropped``. No frame is older than the one before.

    Where a live stream has no timestamps, its frames are stamped by their arrival.

    A live source always ends with SourceError, after its frames, because its end means that the connection is lost.
    """

    def __init__(self, where: str, options: SourceOptions, *, name: str = "", shown: str = "") -> None:
        """Create the source. Iterating opens it.

        Args:
            where: the URL.
            options: which part to read and how long to wait.
            name: see ``Source``; by default from the URL.
            shown: its name in messages; by default the URL, as the user wrote it, without the password.
        """
        self._url = where
        self._scheme = split_url(where).scheme.lower()
        super().__init__("", options, name=name or _url_name(where))
        self._shown = shown or redact(where, *find_secrets(where))
        self._may_pause = False
        """Whether a time without packets is no failure."""
        self.live = self._scheme in LIVE_SCHEMES
        self._clock = StreamClock()
        self._reader: ReadThread[OpenedVideo | _TimedPacket] | None = None
        self._failure: SourceError | None = None
        self._needs_keyframe = False
        self._good_s = 0.0
        self._held = 0
        """Packets that the decoder holds back."""
        self._pacer: Pacer | None = None
        self._silence = SilenceWatch(server_probe(where, PROBE_S))
        limit_ms = options.max_latency_ms
        self._max_wait_s = _MAX_WAIT_S if limit_ms is None else min(_MAX_WAIT_S, limit_ms / 1e3)

    def stop(self) -> None:
        """See ``Source``."""
        super().stop()
        if self._reader is not None:
            self._reader.interrupt()

    def open_audio(self) -> AudioReader | None:
        """Return None: a server may count or refuse a second connection."""
        return None

    def facts(self) -> dict[str, Any]:
        """What the times of a live source come from."""
        if not self.live:
            return {}
        clock = self._clock
        kind = (
            "arrival"
            if self._timing == "arrival" or self._pacer is not None
            else "camera"
            if clock.by_camera
            else "stream"
        )
        error_s = None if clock.clock_error_s is None else round(clock.clock_error_s, 3)
        return {"clock": kind, "clock_jumps": clock.jumps, "camera_clock_error_s": error_s}

    def _may_lack_clock(self, options: SourceOptions) -> bool:
        return self._scheme not in LIVE_SCHEMES

    def _is_live(self, container: InputContainer) -> bool:
        if container.format.name in PLAYLISTS and container.duration is None:
            self._pacer = Pacer(self._stop)
            return True
        return container.duration is None and container.size <= 0

    def _open(self) -> InputContainer:
        return open_url(self._url, self.options)

    def _read(self) -> Iterator[Frame]:
        self._failure = None
        self._reader = reader = ReadThread(
            self._read_packets, name="rtseg-packets", capacity=_WAITING_PACKETS, make_room=self._discard_old
        )
        try:
            if not self.stopped:
                video = self._wait_opened(reader)
                if self.live:
                    yield from self._live_frames(reader, video)
                elif video is not None:
                    yield from self._convert_frames(video, self._decode_packets(reader, video))
                if self._failure is not None and not self.stopped:
                    raise self._failure
        finally:
            reader.close()

    def _read_packets(self, closing: Event) -> Iterator[OpenedVideo | _TimedPacket]:
        """The body of the reading thread: the open video, then its packets."""
        opening_s = time.monotonic()
        with self._open() as container:
            if closing.is_set():
                return
            video = self._prepare(container)
            self._clock = StreamClock()
            yield video
            packets = (
                packet for packet in container.demux() if packet.size and packet.stream_index == video.stream.index
            )
            if self._timing == "arrival":
                first_s: float | None = None
                for packet, arrived_s in stamp_arrivals(packets, opening_s):
                    first_s = arrived_s if first_s is None else first_s
                    yield _TimedPacket(packet, arrived_s, arrived_s - first_s)
                return
            early, error = take_early(packets) if self.live and self._pacer is None else ([], None)
            for packet, arrived_s in early:
                stamp_s = video.seconds(self._stamp(packet))
                if stamp_s is not None:
                    self._clock.learn(stamp_s, arrived_s)
            for packet, arrived_s in early:
                yield self._time(packet, video, arrived_s)
            if error is not None:
                raise error
            for packet in packets:
                yield self._time(packet, video, time.monotonic())

    def _time(self, packet: Packet[Any], video: OpenedVideo, arrived_s: float) -> _TimedPacket:
        stamp_s, camera_s = video.seconds(self._stamp(packet)), _camera_time(packet)
        if stamp_s is None:
            return _TimedPacket(packet, self._clock.capture_without_stamp(arrived_s, camera_s), None)
        return _TimedPacket(packet, *self._clock(stamp_s, arrived_s, camera_s))

    def _discard_old(self, waiting: deque[OpenedVideo | _TimedPacket]) -> None:
        """Make room for newer packets of a live source: keep those from the last keyframe on."""
        if not (self.live and self._skips):
            return
        if not _skip_to_keyframe(waiting):
            waiting.clear()
            self._needs_keyframe = True

    def _wait_opened(self, reader: ReadThread[OpenedVideo | _TimedPacket]) -> OpenedVideo | None:
        """The open video; None after ``stop``."""
        timeout_s = self.options.open_timeout_s
        try:
            video = reader.get(float("inf") if self._may_pause else timeout_s)
        except NothingRead:
            raise SourceStalled(
                f"{self._shown} sends no video within {timeout_s:g} s: check the address and that the stream is running"
            ) from None
        except ReadEnded:
            return None
        assert isinstance(video, OpenedVideo), "the reading thread yields the video first"
        return video

    def _packets(self, reader: ReadThread[OpenedVideo | _TimedPacket]) -> Iterator[_TimedPacket]:
        """Yield packets until the stream ends; ``_failure`` then says why, unless a file has ended well."""
        started_s = self._good_s = time.monotonic()
        timeout_s = self.options.read_timeout_s
        watches = self.live and self._pacer is None  # the segments of a playlist come with pauses
        while not self.stopped:
            # A stream that is joined between two keyframes cannot be decoded before the next one.
            limit_s = max(timeout_s, _FIRST_FRAME_S) if self._good_s == started_s else timeout_s
            try:
                item = self._silence.get(reader, timeout_s, self._step_s if watches else None)
            except NothingRead:
                if self._may_pause:
                    self._good_s = time.monotonic()
                    continue
                failure = self._stalled_error(min(timeout_s, round(time.monotonic() - self._good_s, 1)))
                failure.is_back = self._silence.is_back
                self._failure = failure
                return
            except ReadEnded:
                self._failure = self._disconnected_error("the server ended the stream") if self.live else None
                return
            except av.FFmpegError as error:
                timed_out = isinstance(error, av.error.ExitError | TimeoutError)
                self._failure = (
                    self._stalled_error(timeout_s) if timed_out else self._disconnected_error(ffmpeg_reason(error))
                )
                return
            if time.monotonic() - self._good_s >= limit_s:
                self._failure = self._stalled_error(limit_s)
                return
            assert isinstance(item, _TimedPacket), "the video was opened before"
            yield item

    def _decode_packets(
        self, reader: ReadThread[OpenedVideo | _TimedPacket], video: OpenedVideo
    ) -> Iterator[VideoFrame]:
        """Yield the frames of a file on a server."""
        decoder = StreamDecoder(video.stream, self._count_damaged)
        for timed in self._packets(reader):
            self._refuse_encrypted(timed.packet)
            for frame in decoder.decode(timed.packet):
                yield frame
                self._good_s = time.monotonic()
        yield from decoder.flush()
        if self._failure is not None and not self.stopped:
            raise self._failure

    def _live_frames(
        self, reader: ReadThread[OpenedVideo | _TimedPacket], video: OpenedVideo | None
    ) -> Iterator[Frame]:
        """Yield the frames of a live source, without those that are older than newer ones that are there."""
        if video is None:
            return
        convert = BgrConverter()
        index, last_s, dropped_before, yielded_s = 0, 0.0, self.dropped, time.monotonic()
        for frame, captured_s, stream_s in self._live_decode(reader, video):
            time_s = last_s if stream_s is None else stream_s
            self._good_s = time.monotonic()
            is_starved = self._good_s - yielded_s > _MAX_SKIPPING_S
            if self._pacer is not None:
                captured_s = self._pacer.wait_for(time_s)
            if time_s < last_s or (not is_starved and self._is_late(captured_s, reader)):
                self.dropped += 1
                continue
            image = self._convert(convert, frame)
            if image is not None:
                aspect = 1 / video.pixel_aspect if convert.transposed else video.pixel_aspect
                place = index + self.dropped - dropped_before
                yield Frame(image, place, time_s, captured_s, pixel_aspect=aspect)
                # Not the time that the reader of the frames took.
                self._good_s = yielded_s = time.monotonic()
                index, last_s = index + 1, time_s

    def _is_late(self, captured_s: float, reader: ReadThread[OpenedVideo | _TimedPacket]) -> bool:
        # A decoder that reorders frames gives each of them late, which no skipping would mend.
        limit_s = self._max_wait_s + self._held * self._step_s
        return self._skips and time.monotonic() - captured_s > limit_s and reader.has_more(_SOCKET_S)

    @property
    def _skips(self) -> bool:
        """Whether frames are skipped to catch up. Those of a playlist come in bursts and are not."""
        return self.may_drop and self._pacer is None

    def _live_decode(
        self, reader: ReadThread[OpenedVideo | _TimedPacket], video: OpenedVideo
    ) -> Iterator[tuple[VideoFrame, float, float | None]]:
        """Yield each frame with the time of its capture and its time in the stream."""
        decoder = StreamDecoder(video.stream, self._count_damaged, joined=True, show_damaged=self.options.show_damaged)
        recent: deque[_TimedPacket] = deque(maxlen=_MAX_REORDERED)
        for timed in self._packets(reader):
            self._refuse_encrypted(timed.packet)
            if self._skips and time.monotonic() - timed.captured_s > self._max_wait_s:
                skipped = reader.change_waiting(_skip_to_keyframe)
                if skipped:
                    self.dropped += 1 + skipped
                    decoder.rejoin()
                    continue
            if self._needs_keyframe:
                if not timed.packet.is_keyframe:
                    self.dropped += 1
                    continue
                self._needs_keyframe = False
                decoder.rejoin()
            recent.append(timed)
            decoded_before = decoder.decoded
            for frame in decoder.decode(timed.packet):
                self._held = decoder.pending
                yield frame, *_times_of(frame, recent, decoder.pending)
            if decoder.decoded > decoded_before:  # damaged frames count, too: the source has not stalled
                self._good_s = time.monotonic()
            self._note_losses(decoder)
        for frame in decoder.flush():
            yield frame, *_times_of(frame, recent, decoder.pending)

    def _note_losses(self, decoder: StreamDecoder) -> None:
        if decoder.losses and not self.notice:
            shown = "shown" if self.options.show_damaged else "dropped; --show-damaged shows them"
            until = "frames until the next key frame may be damaged"
            self.notice = f"{self._shown}: data was lost on the way: {until} and are {shown}"

    def _stalled_error(self, waited_s: float) -> SourceStalled:
        return SourceStalled(f"{self._shown}: no frame for {waited_s:g} s: check the camera or server and the network")

    def _disconnected_error(self, reason: str) -> SourceError:
        return SourceError(f"{self._shown} is disconnected ({reason}): check the camera or server and start again")


def _times_of(frame: VideoFrame, recent: deque[_TimedPacket], pending: int) -> tuple[float, float | None]:
    """When ``frame`` was captured, and its time in the stream: those of its packet.

    Without timestamps, its packet is the one as many places before the last as the decoder holds back.
    """
    timed = next((each for each in reversed(recent) if frame.pts is not None and each.packet.pts == frame.pts), None)
    timed = timed or recent[max(-len(recent), -1 - pending)]
    return timed.captured_s, timed.time_s


def _skip_to_keyframe(waiting: deque[OpenedVideo | _TimedPacket]) -> int:
    """Remove what waits before the last keyframe; return how many packets."""
    for place in range(len(waiting) - 1, -1, -1):
        item = waiting[place]
        if isinstance(item, _TimedPacket) and item.packet.is_keyframe:
            for _ in range(place):
                waiting.popleft()
            return place + 1  # with the current one, which is not decoded either
    return 0


def _camera_time(packet: Packet[Any]) -> float | None:
    """``time.monotonic()`` at which ``packet`` was captured, by the wall clock of the camera; None if not sent.

    The demuxer computes it from RTCP sender reports (RFC 3550, section 6.4.1), in microseconds since 1970.
    """
    if not packet.has_sidedata("prft"):
        return None
    (wall_us,) = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))
    return time.monotonic() - time.time() + float(wall_us) / 1e6


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
