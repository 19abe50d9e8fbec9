"""Writes a video file: the encoder, the container, the audio and the part file."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from rtseg.frame import Image
from rtseg.sinks._audio_copy import AudioCopy, AudioPackets
from rtseg.sinks._encoders import TICKS, VideoEncoder
from rtseg.sinks._image_encoder import ImageEncoder
from rtseg.system.part_file import PartFile

__all__ = ["FORMATS", "Recording", "can_hold_video", "muxer_of"]

# hybrid_fragmented: fragments while the file is written, which survive a crash, and an ordinary MP4 once closed.
# Fragments of a quarter of a second, each flushed at once, limit what a crash costs.
_MP4 = {"movflags": "hybrid_fragmented", "frag_duration": "250000", "flush_packets": "1"}
_MATROSKA = {"cluster_time_limit": "250", "flush_packets": "1"}

FORMATS: Final = {".mp4": ("mp4", _MP4), ".mov": ("mov", _MP4), ".mkv": ("matroska", _MATROSKA)}
"""File suffix -> name of the format and options of the muxer."""


def muxer_of(suffix: str, *, audio: bool) -> tuple[str, dict[str, str]]:
    """Name of the format and options of the muxer for files that end in ``suffix``."""
    format_name, options = FORMATS[suffix.lower()]
    if audio:
        # Where the audio has a gap or ends, the video does not wait for it longer than 0.1 s.
        options = options | {"max_interleave_delta": "100000"}
        if "movflags" in options:
            # The header then knows the first timestamps, so that an edit list can align audio and video.
            options["movflags"] += "+delay_moov"
    return format_name, options


def can_hold_video(suffix: str, codec: str) -> bool:
    """Whether files that end in ``suffix`` can hold a codec of ``CODECS``."""
    return not (suffix.lower() == ".mov" and codec == "av1")


class Recording:
    """Encodes images into a part file. Use it on one thread.

    Raises:
        OSError: the part file cannot be written.
        av.error.FFmpegError: the encoder refuses the size of the image.
    """

    def __init__(
        self,
        file: PartFile,
        size: tuple[int, int],
        *,
        rate: Fraction,
        pixel_aspect: Fraction,
        encoder: VideoEncoder,
        audio: AudioPackets | None = None,
        began_s: float | None = None,
        exact_end: bool = False,
    ) -> None:
        """
        Args:
            file: to write; the suffix of its final name is one of ``FORMATS``.
            size: (H, W) of the images, in pixels.
            rate: frames per second, as a hint for the encoder and in the header.
            pixel_aspect: width of a pixel divided by its height, for players.
            encoder: the encoder and its options.
            audio: to be copied, in a codec that the format can hold.
            began_s: ``time.time()`` of the first image, for the header; None if it has none.
            exact_end: write a frame when the next one has come, so that ``finish`` can say how long the last one lasts.
        """
        self.audio_failure = ""
        """Why the audio ends early; empty if it does not."""
        self.end_pts = 0
        """Length of the finished file, in ticks."""
        self.file = file
        format_name, options = muxer_of(file.path.suffix, audio=audio is not None)
        # Through our own file object: a full disk raises its own OSError, and nothing is written after it.
        self._container = av.open(self.file, "w", format=format_name, options=options)
        if began_s is not None:
            self._container.metadata["creation_time"] = datetime.fromtimestamp(began_s, UTC).isoformat()
        self._stream = self._container.add_stream(encoder.name, rate=rate)
        context = self._stream.codec_context
        assert isinstance(context, VideoCodecContext)
        if encoder.codec == "hevc" and "movflags" in options:
            context.codec_tag = "hvc1"  # Apple's players refuse hev1
        self.images = ImageEncoder(encoder, context, size, rate=rate, pixel_aspect=pixel_aspect)
        self._audio = AudioCopy(self._container, audio, edit_list="movflags" in options) if audio else None
        self._exact_end = exact_end
        self._held: Packet[Any] | None = None

    def add(
        self, image: Image, pts_s: float, duration_s: float | None = None, pixel_aspect: Fraction | None = None
    ) -> None:
        """Encode ``image``; see ``ImageEncoder.encode``.

        Raises:
            OSError: the disk does not accept it.
            av.error.FFmpegError: the encoder or the container does not.
        """
        self._write(self.images.encode(image, pts_s, duration_s, pixel_aspect))

    def finish(self, end_s: float | None = None) -> None:
        """Write what the encoder still holds, the rest of the audio and the index, and give the file its final name.

        Args:
            end_s: where the last image ends, on the clock of ``Frame.pts_s``, if it is known and ``exact_end`` is set.

        Raises:
            OSError: the disk does not accept it; the file up to here is still there.
            av.error.FFmpegError: as ``add``.
        """
        self._write(self.images.flush())
        self.end_pts = self.images.end_pts
        if self._held is not None:
            last, self._held = self._held, None
            if end_s is not None and self.images.start_s is not None:
                self.end_pts = max((last.pts or 0) + 1, round((end_s - self.images.start_s) * TICKS))
            last.duration = self.end_pts - (last.pts or 0)
            self._write_through(last)
        self._copy_audio(self.end_pts)
        self._container.close()
        self.file.commit()

    def abandon(self) -> int:
        """End after a failure. The part file stays, as far as it is complete.

        Returns:
            How many frames can be played from it. If there are none, the file is removed.
        """
        self.file.broken = True
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self._container.close()
        if not self.file.keep():
            return 0
        frames = _count_frames(self.file.part)
        if not frames:
            self.file.part.unlink(missing_ok=True)
        return frames

    def _write(self, packets: list[Packet[Any]]) -> None:
        """Write encoded frames; where ``exact_end`` is set, each of them when the next one has come."""
        for packet in packets:
            packet.stream = self._stream
            ready: Packet[Any] | None = packet
            if self._exact_end:
                ready, self._held = self._held, packet
            if ready is not None:
                self._write_through(ready)
        self.file.mark()

    def _write_through(self, packet: Packet[Any]) -> None:
        """Write ``packet`` after the audio that comes before it."""
        self._copy_audio(packet.pts or 0)
        self._mux(packet)

    def _copy_audio(self, until_pts: int) -> None:
        start_s = self.images.start_s
        if self._audio is None or start_s is None:
            return
        # Less half a tick, so that a packet at that very time is not taken because of rounding.
        for packet in self._audio.packets(start_s, start_s + (until_pts - 0.5) / TICKS):
            self._mux(packet)
            if self._audio is None:
                return

    def _mux(self, packet: Packet[Any]) -> None:
        """Write ``packet``. If the container refuses something, that is taken for the audio, which then ends."""
        try:
            self._container.mux(packet)
        except av.error.FFmpegError as error:
            if self._audio is None or self.file.broken:
                raise
            # The muxer has dropped the packet that it refused, and keeps the others.
            self._audio, self.audio_failure = None, (error.strerror or type(error).__name__).lower()


def _count_frames(path: Path) -> int:
    try:
        with av.open(path) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (av.error.FFmpegError, OSError, IndexError):
        return 0
