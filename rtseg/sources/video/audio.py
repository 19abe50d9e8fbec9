"""The audio of a video file: compressed packets, timed like the frames of the video."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Discard

from rtseg.errors import SourceError
from rtseg.sources.options import SourceOptions
from rtseg.sources.video.container import find_video_stream, open_file
from rtseg.sources.video.decode import file_packets
from rtseg.sources.video.seek import seconds
from rtseg.sources.video.timestamps import FrameClock

__all__ = ["AudioReader"]

_READ_THROUGH_S = 2.0
"""Up to this time in the file, reading every packet is as fast as seeking."""
_SEEK_MARGIN_S = 1.0
_ROUNDING_S = 2e-3
"""Matroska rounds timestamps to 1 ms: packets this close to the end of the previous one follow it without a gap."""
_NOMINAL_PACKET_S = 0.02

_TimedPacket = tuple[float, float, "Packet[AudioStream]"]
"""Time and length in seconds, and the packet."""


class AudioReader:
    """Reads the default audio stream of a video file through a container of its own. Use it on one thread.

    Times are in seconds on the clock of ``Frame.pts_s``: 0 is the start of the video stream, and with ``--loop``
    the audio of each pass follows that of the pass before it.
    """

    stream: AudioStream
    """Describes the codec."""
    damaged: int = 0
    """Packets that could not be read and were skipped."""

    def __init__(self, path: Path, options: SourceOptions, pass_starts_s: Sequence[float]) -> None:
        """Open the file.

        Args:
            path: a video file.
            options: those of the video source.
            pass_starts_s: ``Source.pass_starts_s`` of the video source; it may grow on another thread.

        Raises:
            SourceError: the file cannot be opened, or holds no audio.
        """
        self._path = path
        # A playlist may lead to a server, which should not have to send everything twice.
        self._options = replace(options, allow_playlists=False)
        self._pass_starts_s = pass_starts_s
        self._pass = -1
        self._packets: Iterator[_TimedPacket] = iter(())
        self._next: _TimedPacket | None = None
        self._end_s: float | None = None
        """End of the packets so far if they followed each other without gaps."""
        self._open()

    def read(self, until_s: float) -> Iterator[tuple[float, Packet[AudioStream]]]:
        """Yield the next packets that begin before ``until_s``, each with its time in seconds.

        Call it after the first frame of the video has been read. The first packets may begin before that frame.
        """
        while True:
            following = self._pass_starts_s[self._pass + 1 : self._pass + 2]
            pass_end_s = following[0] if following else math.inf
            while self._next is not None and self._next[0] < min(until_s, pass_end_s):
                time_s, length_s, packet = self._next
                self._end_s = (time_s if self._end_s is None else self._end_s) + length_s
                yield time_s, packet
                self._next = next(self._packets, None)
            if until_s <= pass_end_s:
                return
            self._pass += 1
            self._packets = self._read_pass()
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._container.close()

    def _open(self) -> None:
        self._container = open_file(self._path, self._options)
        audio, video = self._container.streams.best("audio"), find_video_stream(self._container)
        if video is None or not isinstance(audio, AudioStream) or audio.codec_context is None:
            self.close()
            raise SourceError(f"{self._path} holds no audio beside a video")
        self.stream, self._video = audio, video
        self._origin_s = seconds(video.start_time, video) or 0.0

    def _read_pass(self) -> Iterator[_TimedPacket]:
        """Yield the packets of the current pass; none if the file can no longer be opened."""
        first_s, start_s = self._pass_starts_s[0], self._pass_starts_s[self._pass]
        try:
            if self._pass:
                self._reopen()
            if first_s > _READ_THROUGH_S and not self._seek(first_s):
                self._reopen()
        except SourceError:
            return
        joining = self._end_s is not None
        for time_s, length_s, packet in self._timed_packets():
            time_s += start_s - first_s
            if joining and self._end_s is not None:
                # A pass seldom ends where a packet ends. Go on with the packet nearest to the end of the previous
                # one: gaps and overlaps then do not add up where a container ignores them (PCM in MP4).
                self._end_s = min(max(self._end_s, start_s - length_s), start_s + length_s)
                if time_s < self._end_s - length_s / 2:
                    continue
                joining = False
            yield time_s, length_s, packet

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _seek(self, to_s: float) -> bool:
        """Go to a place from which every packet after ``to_s`` is read; False if none is found."""
        assert self._video.time_base is not None
        # By the video stream, as Matroska files have no index of the audio.
        target = math.floor((self._origin_s + to_s - _SEEK_MARGIN_S) / self._video.time_base)
        try:
            self._container.seek(target, stream=self._video)
            time_s = seconds(next(self._container.demux(self.stream)).pts, self.stream)
            if time_s is None or time_s - self._origin_s > to_s:
                return False
            self._container.seek(target, stream=self._video)
        except av.FFmpegError:
            return False
        return True

    def _timed_packets(self) -> Iterator[_TimedPacket]:
        """Yield the packets from the current place on, with their times in the file."""
        for stream in self._container.streams:
            if stream is not self.stream:
                stream.discard = Discard.all  # an MP4 file is then read only where its audio is
        rate, size = self.stream.codec_context.sample_rate, self.stream.codec_context.frame_size
        clock: FrameClock | None = None
        expected_s = math.inf
        for packet in file_packets(self._container, self.stream, self._count_damaged):
            if packet.is_corrupt:
                self._count_damaged()
                continue
            stamp_s = seconds(packet.dts if packet.pts is None else packet.pts, self.stream)
            length_s = size / rate if size and rate else seconds(packet.duration, self.stream) or _NOMINAL_PACKET_S
            if clock is None and stamp_s is not None and stamp_s < self._origin_s:
                time_s = stamp_s - self._origin_s  # what the encoder put before the start, as AAC does
            else:
                clock = clock or FrameClock(self._origin_s, length_s)
                time_s = clock(stamp_s)
                if packet.is_discard:  # cut away by an edit list
                    continue
            if size and abs(time_s - expected_s) < _ROUNDING_S:
                time_s = expected_s
            expected_s = time_s + length_s
            yield time_s, length_s, packet

    def _count_damaged(self) -> None:
        self.damaged += 1
