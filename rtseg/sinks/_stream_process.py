"""A process of its own that encodes images and sends them: a library call that blocks can be ended with it.

The first line on its stdin is a ``StreamTarget`` as JSON; images follow, each after a ``HEADER``. On stdout it prints
``ready`` once the receiver has accepted the stream, and one line that says why if it ends before stdin does.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import IO, Any, Final

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from rtseg.sinks._encoders import VideoEncoder
from rtseg.sinks._image_encoder import ImageEncoder

__all__ = ["HEADER", "StreamTarget", "main"]

HEADER: Final = struct.Struct("<4Id")
"""Before each image: height, width, numerator and denominator of ``Frame.pixel_aspect``, ``Frame.pts_s``."""


@dataclass(frozen=True, slots=True)
class StreamTarget:
    """Where to send images, and how."""

    url: str
    format: str
    """Of FFmpeg's muxer."""
    options: dict[str, str]
    """Of the muxer and the protocol."""
    codec: str
    encoder: str
    quality: int
    fps: float
    open_timeout_s: float
    send_timeout_s: float

    def to_line(self) -> bytes:
        """For stdin."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    """Send what comes on stdin until it ends, or an error or a time-out ends the process."""
    stdin = sys.stdin.buffer
    line = stdin.readline()
    if not line:
        return
    try:
        _send(StreamTarget(**json.loads(line)), stdin)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        print(f"{type(error).__name__} {getattr(error, 'strerror', None) or error}", flush=True)
        os._exit(1)  # nothing else: closing the container might block again


def _send(target: StreamTarget, stdin: IO[bytes]) -> None:
    def read_image() -> tuple[Any, float, Fraction] | None:
        header = stdin.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        height, width, over, under, pts_s = HEADER.unpack(header)
        data = stdin.read(height * width * 3)
        image = np.frombuffer(data, np.uint8)
        return (image.reshape(height, width, 3), pts_s, Fraction(over, under)) if len(data) == image.size else None

    first = read_image()
    if first is None:
        return
    encoder = VideoEncoder(target.codec, target.encoder, target.quality, low_latency=True)
    rate = Fraction(target.fps).limit_denominator(1001)
    # The signal ends the process, also inside a call that never returns.
    signal.setitimer(signal.ITIMER_REAL, target.open_timeout_s)
    container = av.open(target.url, "w", format=target.format, options=target.options)
    stream = container.add_stream(encoder.name, rate=rate)
    context = stream.codec_context
    assert isinstance(context, VideoCodecContext)
    images = ImageEncoder(encoder, context, first[0].shape[:2], rate=rate, pixel_aspect=first[2])
    container.start_encoding()
    print("ready", flush=True)

    def send(packets: list[Packet[Any]]) -> None:
        signal.setitimer(signal.ITIMER_REAL, target.send_timeout_s)
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
        signal.setitimer(signal.ITIMER_REAL, 0)

    following: tuple[Any, float, Fraction] | None = first
    while following is not None:
        image, pts_s, pixel_aspect = following
        send(images.encode(image, pts_s, None, pixel_aspect))
        following = read_image()
    send(images.flush())
    signal.setitimer(signal.ITIMER_REAL, target.send_timeout_s)
    container.close()
