"""A source of your own: raw BGR frames from a pipe.

ffmpeg -i dashcam.mp4 -f rawvideo -pix_fmt bgr24 -s 960x540 - | python examples/own_source.py 540x960 overlay.mp4
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rtseg import Frame, Overlay, Pipeline, Source, SourceOptions, VideoSink, open_backend
from rtseg.errors import RtsegError


class RawFrames(Source):
    """Frames of one size, BGR, one after the other in a binary stream."""

    def __init__(self, stream: BinaryIO, size: tuple[int, int], fps: float) -> None:
        super().__init__("pipe", SourceOptions())
        self.fps = fps
        self._stream = stream
        self._shape = (*size, 3)

    def _read(self) -> Iterator[Frame]:
        index = 0
        length = int(np.prod(self._shape))
        while not self.stopped and len(data := self._stream.read(length)) == length:
            image = np.frombuffer(data, np.uint8).reshape(self._shape)
            yield Frame(image, index, pts_s=index / self.fps, captured_s=time.monotonic())
            index += 1


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", help="HEIGHTxWIDTH")
    parser.add_argument("output", type=Path)
    parser.add_argument("--fps", type=float, default=25.0)
    arguments = parser.parse_args()
    height, width = map(int, arguments.size.split("x"))
    source = RawFrames(sys.stdin.buffer, (height, width), arguments.fps)
    sink = VideoSink(arguments.output, fps_hint=arguments.fps)
    with (
        open_backend("auto", "icnet-camvid") as backend,
        Pipeline(source, backend, [sink], Overlay(backend.spec)) as pipeline,
    ):
        pipeline.run()
    sink.close()
    print(f"{sink.written} frames in {arguments.output}")


if __name__ == "__main__":
    try:
        main()
    except RtsegError as error:
        sys.exit(f"error: {error}")
