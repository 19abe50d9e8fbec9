"""The clip that shows what a tool loses, and what is in a written video. Used by ``peers.py``."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

__all__ = ["compare", "contents", "write_test_clip"]

_STEPS_MS = (33, 67)
"""Duration of a frame in the first half of the test clip and in the second: a camera whose rate falls in the dark."""
_AUDIO_RATE, _AUDIO_SAMPLES = 48_000, 1024


def write_test_clip(path: Path, frames: int = 60, size: tuple[int, int] = (192, 320)) -> Path:
    """Write H.264 with B-frames, 30 frames a second and then 15, and AAC audio (a tone).

    Args:
        path: an ``.mp4`` file.
        frames: their number.
        size: (H, W) in pixels.
    """
    height, width = size
    steps_ms = (_STEPS_MS[2 * number // frames] for number in range(frames - 1))
    times_ms = [0, *itertools.accumulate(steps_ms)]
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("aac", rate=_AUDIO_RATE)
        for number, time_ms in enumerate(times_ms):
            image = np.full((height, width, 3), 60, np.uint8)
            image[:, : (number + 1) * width // frames] = 190
            frame = av.VideoFrame.from_ndarray(image, "bgr24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for first in range(0, times_ms[-1] * _AUDIO_RATE // 1000, _AUDIO_SAMPLES):
            phase = np.arange(first, first + _AUDIO_SAMPLES) * (2 * np.pi * 440 / _AUDIO_RATE)
            sound = av.AudioFrame.from_ndarray((0.1 * np.sin(phase)).astype(np.float32)[None], "fltp", "mono")
            sound.sample_rate, sound.pts, sound.time_base = _AUDIO_RATE, first, Fraction(1, _AUDIO_RATE)
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return path


def contents(path: Path) -> dict[str, Any]:
    """Decode a video: ``codec``, ``size`` (H, W), ``times_s`` of its frames, and ``audio``, seconds of it or None."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times_s = [float(frame.pts * stream.time_base) for frame in container.decode(stream) if frame.pts is not None]
        facts = {"codec": stream.codec_context.name, "size": [stream.height, stream.width], "times_s": times_s}
    with av.open(str(path)) as container:
        sounds = list(container.decode(audio=0)) if container.streams.audio else []
        seconds = sum(sound.samples / sound.sample_rate for sound in sounds)
    return facts | {"audio": seconds or None}


def compare(source: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """Return what a written video lost of its source: frames, timestamps and audio.

    ``timestamp_error_ms`` is the largest difference of the times of the n-th frames, each counted from the first.
    """
    before, after = (np.array(each["times_s"]) - each["times_s"][0] for each in (source, written))
    common = min(len(before), len(after))
    return {
        "codec": written["codec"],
        "frames_lost": len(before) - len(after),
        "timestamp_error_ms": 1e3 * float(np.abs(before[:common] - after[:common]).max()),
        "audio_lost_s": (source["audio"] or 0.0) - (written["audio"] or 0.0),
    }
