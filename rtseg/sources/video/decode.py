"""Reads packets from a container and decodes them. Damaged ones are skipped and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.errors import SourceError
from rtseg.sources.video.container import ffmpeg_reason

__all__ = ["StreamDecoder", "UrlPackets", "file_packets"]

StreamT = TypeVar("StreamT", bound=Stream)

_FIRST_FRAME_S = 8.0
"""Longest wait, in seconds, for the first frame of a stream that is joined between two keyframes."""
_MAX_CONSECUTIVE_ERRORS = 16
"""After this many failed reads without a packet in between, a file ends."""


class StreamDecoder:
    """Decodes the packets of one video stream. Use it on the thread that reads the container."""

    def __init__(self, stream: VideoStream, count: Callable[[], None], *, joined: bool = False) -> None:
        """Create it before the first packet.

        Args:
            stream: stream of an open container, with options and threads set.
            count: called for each frame that cannot be decoded.
            joined: whether reading starts in the middle of the stream. Then frames before the first keyframe cannot
                be decoded, which does not count as damage.
        """
        self._stream = stream
        self._count = count
        self._joining = joined
        self._open = 0

    def decode(self, packet: Packet[Any]) -> Iterator[VideoFrame]:
        """Yield the frames that ``packet`` completes, in presentation order."""
        self._open += packet.size > 0
        try:
            # Not packet.decode(), because an empty packet would flush the decoder.
            decoded = self._stream.decode(packet) if packet.size else []
        except av.FFmpegError:
            self._skip()
            return
        yield from self._good(decoded)

    def flush(self) -> Iterator[VideoFrame]:
        """Yield the frames that the decoder still holds. No packet may follow.

        Errors are not counted here; ``lost`` reports them.
        """
        try:
            decoded = self._stream.decode(None)
        except av.FFmpegError:
            return
        yield from self._good(decoded)

    @property
    def pending(self) -> int:
        """Packets after the one of the last frame, whose frames are still in the decoder."""
        return max(0, self._open)

    @property
    def lost(self) -> bool:
        """Whether frames are missing, after ``flush``.

        PyAV ends the flush at the first damaged frame; later good ones, on other threads, are lost.
        """
        return self._open > 0

    def _good(self, decoded: list[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in decoded:
            if frame.is_corrupt:
                self._skip()
            else:
                self._open -= 1
                self._joining = False
                yield frame

    def _skip(self) -> None:
        self._open -= 1
        if not self._joining:
            self._count()


def file_packets(container: InputContainer, stream: StreamT, count: Callable[[], None]) -> Iterator[Packet[StreamT]]:
    """Yield the packets of ``stream`` in a file. ``count`` is called for each part that cannot be read."""
    errors = 0
    while errors < _MAX_CONSECUTIVE_ERRORS:
        try:
            packets: Iterator[Packet[Any]] = container.demux(stream)
            for packet in packets:
                if packet.size:
                    errors = 0
                    yield packet
        except av.FFmpegError:
            # The demuxer has passed the damaged part; the next call continues after it.
            errors += 1
            if errors == 1:
                count()
        else:
            return


class UrlPackets:
    """Yields the packets of a server's ``stream`` until it ends or ``failure`` is set.

    The failure is not raised here, so that the frames in the decoder can be delivered first.
    """

    failure: SourceError | None = None

    def __init__(
        self, container: InputContainer, stream: VideoStream, *, shown: str, live: bool, timeout_s: float
    ) -> None:
        """Create it before the first packet.

        Args:
            container: opened with a read timeout of ``timeout_s``.
            stream: the stream to read.
            shown: name of the source in messages.
            live: whether the end of the stream is a failure.
            timeout_s: longest wait for a frame, in seconds.
        """
        self._container = container
        self._stream = stream
        self._shown = shown
        self._live = live
        self._timeout_s = timeout_s
        self._max_wait_s = max(timeout_s, _FIRST_FRAME_S)
        self._waited_s = 0.0

    def restart_wait(self) -> None:
        """Restart the wait, because a good frame was decoded."""
        self._waited_s, self._max_wait_s = 0.0, self._timeout_s

    def __iter__(self) -> Iterator[Packet[Stream]]:
        # Read all streams: a read of the video alone would not time out while audio packets arrive.
        packets = self._container.demux()
        while True:
            started_s = time.monotonic()
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                timed_out = isinstance(error, av.error.ExitError | TimeoutError)
                self.failure = self._stalled_error() if timed_out else self._disconnected_error(ffmpeg_reason(error))
                return
            took_s = time.monotonic() - started_s
            self._waited_s += took_s
            # A packet that arrives when the time is up is an old one from a buffer, which would hide the stall.
            if took_s >= self._timeout_s or self._waited_s >= self._max_wait_s:
                self.failure = self._stalled_error()
                return
            if packet is None:
                self.failure = self._disconnected_error("the server ended the stream") if self._live else None
                return
            if packet.size and packet.stream_index == self._stream.index:
                yield packet

    def _stalled_error(self) -> SourceError:
        waited_s = min(max(self._waited_s, self._timeout_s), self._max_wait_s)
        return SourceError(f"{self._shown}: no frame for {waited_s:g} s: check the camera or server and the network")

    def _disconnected_error(self, reason: str) -> SourceError:
        return SourceError(f"{self._shown} is disconnected ({reason}): check the camera or server and start again")
