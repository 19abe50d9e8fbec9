"""Clips with a tone whose pitch changes at a known time, and how to find that time again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 48_000
FPS = 25
LOW_HZ, HIGH_HZ = 400, 2000
_WINDOW = 480


def write_audio_clip(
    path: Path, codec: str, *, length_s: float = 6.0, change_s: float = 3.5, audio_s: float | None = None
) -> Path:
    """Write a video of 64x48 at 25 fps, with a tone of 400 Hz that becomes 2000 Hz at ``change_s``.

    Args:
        path: its suffix chooses the container.
        codec: of the audio.
        length_s: of the video.
        change_s: when the tone changes.
        audio_s: length of the audio; that of the video unless given.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(codec, rate=RATE)
        audio.codec_context.layout = "mono"
        packets = []
        for index in range(round(length_s * FPS)):
            image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index % 200, np.uint8), "bgr24")
            image.pts, image.time_base = index, Fraction(1, FPS)
            packets += video.encode(image)
        packets += video.encode(None)
        resampler = av.AudioResampler(audio.codec_context.format, "mono", RATE)
        fifo = av.AudioFifo()
        for frame in resampler.resample(_tone(length_s if audio_s is None else audio_s, change_s)):
            fifo.write(frame)
        while (frame := fifo.read(audio.codec_context.frame_size or 1024, partial=True)) is not None:
            packets += audio.encode(frame)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _tone(length_s: float, change_s: float) -> av.AudioFrame:
    times = np.arange(round(length_s * RATE)) / RATE
    wave = np.where(times < change_s, np.sin(2 * np.pi * LOW_HZ * times), np.sin(2 * np.pi * HIGH_HZ * times))
    frame = av.AudioFrame.from_ndarray((16_000 * wave).astype(np.int16)[None], "s16", "mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    return frame


def tone_changes(path: Path) -> list[float]:
    """Times in seconds at which the low tone becomes the high one, to 5 ms, on the clock of the video."""
    samples = _decode(path)
    high, low = HIGH_HZ * _WINDOW // RATE, LOW_HZ * _WINDOW // RATE
    changes, was_low = [], False
    for start in range(0, len(samples) - _WINDOW, _WINDOW // 2):
        levels = np.abs(np.fft.rfft(samples[start : start + _WINDOW] * np.hanning(_WINDOW)))
        if max(levels[high], levels[low]) < 1e5:
            continue
        if was_low and levels[high] > levels[low]:
            changes.append((start + _WINDOW / 2) / RATE)
        was_low = levels[low] > levels[high]
    return changes


def _decode(path: Path) -> NDArray[np.float64]:
    """Samples at ``RATE``, placed by their times: index 0 is the first frame of the video."""
    with av.open(str(path)) as container:
        start = container.streams.video[0].start_time
        origin_s = 0.0 if start is None else float(start * container.streams.video[0].time_base)
        resampler = av.AudioResampler("s16", "mono", RATE)
        pieces = [
            (round((float(piece.pts * piece.time_base) - origin_s) * RATE), piece.to_ndarray()[0])
            for frame in container.decode(audio=0)
            for piece in resampler.resample(frame)
        ]
    samples = np.zeros(max(place + len(piece) for place, piece in pieces) + _WINDOW)
    for place, piece in pieces:
        samples[max(place, 0) : place + len(piece)] = piece[max(-place, 0) :]
    return samples
