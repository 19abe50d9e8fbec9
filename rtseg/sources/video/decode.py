"""Reads packets from a container and decodes them. Damaged ones are skipped and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from rtseg.sources.video.loss import LossGuard

__all__ = ["StreamDecoder", "file_packets"]

StreamT = TypeVar("StreamT", bound=Stream)

_MAX_CONSECUTIVE_ERRORS = 16
"""After this many failed reads without a packet in between, a file ends."""


class StreamDecoder:
    """Decodes the packets of one video stream. Use it on the thread that reads the container."""

    def __init__(
        self, stream: VideoStream, count: Callable[[], None], *, joined: bool = False, show_damaged: bool = False
    ) -> None:
        """Create it before the first packet.

        Args:
            stream: stream of an open container, with options and threads set.
            count: called for each frame that cannot be decoded.
            joined: whether the stream is live, and reading starts in the middle of it. Then frames before the first
                keyframe cannot be decoded, which does not count as damage, and frames after lost data are not trusted.
            show_damaged: whether to deliver frames that are not trusted. They are counted all the same.
        """
        self._stream = stream
        self._count = count
        self._joining = joined
        self._guard = LossGuard() if joined else None
        self._show_damaged = show_damaged
        self._open = 0
        self.decoded = 0
        """Frames that came out of the decoder, also damaged ones."""

    def decode(self, packet: Packet[Any]) -> Iterator[VideoFrame]:
        """Yield the frames that ``packet`` completes, in presentation order."""
        self._open += packet.size > 0
        if self._guard is not None:
            self._guard.add(packet)
        try:
            # Not packet.decode(), because an empty packet would flush the decoder.
            decoded = self._stream.decode(packet) if packet.size else []
        except av.FFmpegError:
            self._skip()
            return
        yield from self._good(decoded)

    def rejoin(self) -> None:
        """Go on at a keyframe, after packets that were left out. The frames in the decoder are lost."""
        self._stream.codec_context.flush_buffers()
        self._open = 0
        self._joining = True

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

    @property
    def losses(self) -> int:
        """How often data of a live stream was lost or damaged."""
        return self._guard.losses if self._guard is not None and not self._joining else 0

    def _good(self, decoded: list[VideoFrame]) -> Iterator[VideoFrame]:
        self.decoded += len(decoded)
        for frame in decoded:
            if not frame.is_corrupt and (self._guard is None or self._guard.trusts(frame)):
                self._open -= 1
                self._joining = False
                yield frame
                continue
            self._skip(is_loss=frame.is_corrupt)
            if self._show_damaged:
                yield frame

    def _skip(self, *, is_loss: bool = True) -> None:
        self._open -= 1
        if is_loss and self._guard is not None:
            self._guard.lose()
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
