"""From a container to good frames: packets are read with patience, what is damaged is skipped and counted."""

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
from rtseg.sources.video.container import reason

__all__ = ["StreamDecoder", "UrlPackets", "file_packets"]

StreamT = TypeVar("StreamT", bound=Stream)

_FIRST_FRAME_S = 8.0
"""Longest wait for the first frame of a stream that is joined between two keyframes."""
_ERRORS_IN_A_ROW = 16
"""So many failed reads of a file with no packet between them are its end."""


class StreamDecoder:
    """Decodes the packets of one video stream. Belongs to the thread that reads the container."""

    def __init__(self, stream: VideoStream, count: Callable[[], None], *, joined: bool = False) -> None:
        """Start before the first packet.

        Args:
            stream: of an open container; options and threads are set.
            count: called once for each frame that cannot be decoded.
            joined: the stream is joined in its midst. What comes before its first keyframe cannot be decoded
                then, and is no damage.
        """
        self._stream = stream
        self._count = count
        self._joining = joined
        self._open = 0

    def decode(self, packet: Packet[Any]) -> Iterator[VideoFrame]:
        """The frames that became ready with ``packet``, in order of presentation."""
        self._open += packet.size > 0
        try:
            # Not packet.decode(): an empty packet would flush.
            decoded = self._stream.decode(packet) if packet.size else []
        except av.FFmpegError:
            self._skip()
            return
        yield from self._good(decoded)

    def flush(self) -> Iterator[VideoFrame]:
        """The frames that the decoder still holds; no packet may follow.

        An error is not counted here but shows in ``lost``.
        """
        try:
            decoded = self._stream.decode(None)
        except av.FFmpegError:
            return
        yield from self._good(decoded)

    @property
    def lost(self) -> bool:
        """After ``flush``: whether frames are missing.

        PyAV ends the flush at the first bad frame; good ones behind it, on other threads, cannot be had.
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
    """The packets of ``stream`` in a file; ``count`` is called for each place that cannot be read."""
    errors = 0
    while errors < _ERRORS_IN_A_ROW:
        try:
            packets: Iterator[Packet[Any]] = container.demux(stream)
            for packet in packets:
                if packet.size:
                    errors = 0
                    yield packet
        except av.FFmpegError:
            # The demuxer stands behind the bad place: asked again it goes on from there.
            errors += 1
            if errors == 1:
                count()
        else:
            return


class UrlPackets:
    """The packets of ``stream`` from a server. They end with the stream, or with ``failure`` set.

    The failure is not raised, so that the frames which the decoder still holds can be shown before it is.
    """

    failure: SourceError | None = None

    def __init__(
        self, container: InputContainer, stream: VideoStream, *, shown: str, live: bool, timeout_s: float
    ) -> None:
        """Start before the first packet.

        Args:
            container: opened with a read time-out of ``timeout_s``.
            stream: the one whose packets are wanted.
            shown: what messages call the source.
            live: whether the end of the stream is a failure.
            timeout_s: longest wait for a frame, in seconds.
        """
        self._container = container
        self._stream = stream
        self._shown = shown
        self._live = live
        self._timeout_s = timeout_s
        self._patience_s = max(timeout_s, _FIRST_FRAME_S)
        self._waited_s = 0.0

    def frame_came(self) -> None:
        """A good frame was decoded: the wait begins anew."""
        self._waited_s, self._patience_s = 0.0, self._timeout_s

    def __iter__(self) -> Iterator[Packet[Stream]]:
        # All streams are read, as sound that goes on would hide that the image stands still.
        packets = self._container.demux()
        while True:
            asked_s = time.monotonic()
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                timed_out = isinstance(error, av.error.ExitError | TimeoutError)
                self.failure = self._stalled() if timed_out else self._gone(reason(error))
                return
            took_s = time.monotonic() - asked_s
            self._waited_s += took_s
            # What comes as the time is up is an old frame out of a buffer: it would hide the stall.
            if took_s >= self._timeout_s or self._waited_s >= self._patience_s:
                self.failure = self._stalled()
                return
            if packet is None:
                self.failure = self._gone("the peer ended the stream") if self._live else None
                return
            if packet.size and packet.stream_index == self._stream.index:
                yield packet

    def _stalled(self) -> SourceError:
        waited_s = min(max(self._waited_s, self._timeout_s), self._patience_s)
        return SourceError(f"{self._shown}: no frame for {waited_s:g} s: check the camera or server and the network")

    def _gone(self, why: str) -> SourceError:
        return SourceError(f"{self._shown} is disconnected ({why}): check the camera or server and start again")
