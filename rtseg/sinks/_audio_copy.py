"""Copies the audio of a source into a recording, packet by packet, without encoding it again."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from typing import Protocol

import av
import av.error
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet

__all__ = ["AudioCopy", "AudioPackets", "can_hold"]


class AudioPackets(Protocol):
    """Compressed audio with times in seconds on the clock of ``Frame.pts_s``, e.g. ``Source.open_audio()``."""

    stream: AudioStream
    """Describes the codec."""
    damaged: int
    """Packets that could not be read and were skipped."""

    def read(self, until_s: float) -> Iterator[tuple[float, Packet[AudioStream]]]:
        """Yield the next packets that begin before ``until_s``, each with its time."""

    def close(self) -> None:
        """End the reading."""


def can_hold(audio: AudioPackets, format_name: str, options: dict[str, str]) -> bool:
    """Whether files of a format can hold the codec of ``audio``, also before its first packet is known."""
    try:
        with av.open(BytesIO(), "w", format=format_name, options=options) as container:
            container.add_stream_from_template(audio.stream)
            container.start_encoding()
    except (ValueError, av.error.FFmpegError):
        return False
    return True


class AudioCopy:
    """The audio stream of a recording. Create it before the first packet is written."""

    def __init__(self, container: OutputContainer, audio: AudioPackets, *, edit_list: bool) -> None:
        """Add the stream.

        Args:
            container: of the recording.
            audio: what to copy.
            edit_list: whether the container can hide what a packet holds before the first frame. Elsewhere such a
                packet would delay the video, so it is left out.
        """
        self._audio = audio
        self._edit_list = edit_list
        self._out = container.add_stream_from_template(audio.stream)
        codec = audio.stream.codec_context
        self._rate = codec.sample_rate or 48_000
        self._last = -self._rate
        self._filter: BitStreamFilterContext | None = None
        if codec.name == "aac" and not codec.extradata:
            # MPEG-TS repeats the configuration of AAC in every packet; other containers want it once.
            self._filter = BitStreamFilterContext("aac_adtstoasc", audio.stream)

    def packets(self, start_s: float, until_s: float) -> Iterator[Packet[AudioStream]]:
        """Yield the packets that begin before ``until_s``, ready to be written.

        Args:
            start_s: time of the first frame of the recording, on the clock of ``Frame.pts_s``.
            until_s: on the same clock.
        """
        for time_s, packet in self._audio.read(until_s):
            pts = round((time_s - start_s) * self._rate)
            length = round((packet.duration or 0) * packet.time_base * self._rate)
            if pts <= self._last or pts < (-length if self._edit_list else 0):
                continue
            self._last = pts
            packet.pts = packet.dts = pts
            packet.duration = length
            for filtered in self._filtered(packet):
                filtered.time_base = Fraction(1, self._rate)
                filtered.stream = self._out
                yield filtered

    def _filtered(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        try:
            return [packet] if self._filter is None else self._filter.filter(packet)
        except av.error.FFmpegError:
            self._audio.damaged += 1
            return []
