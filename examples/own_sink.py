"""A sink of your own: save the overlay as a JPEG once a second.

python examples/own_sink.py dashcam.mp4 snapshots
"""

import argparse
import sys
from pathlib import Path

import cv2

from rtseg import Frame, Overlay, Pipeline, Sink, open_backend, open_source
from rtseg.errors import RtsegError


class Snapshots(Sink):
    """Saves one image for each period of ``every_s`` seconds."""

    kind = "snapshots"

    def __init__(self, folder: Path, every_s: float = 1.0) -> None:
        self.name = f"snapshots in {folder}"
        self._folder = folder
        self._every_s = every_s
        self._next_s = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, frame: Frame, labels, rendered) -> None:
        """Save ``rendered``, uint8 BGR (H, W, 3), if it is due."""
        if frame.pts_s >= self._next_s:
            cv2.imwrite(str(self._folder / f"{frame.index:06d}.jpg"), rendered)
            self._next_s = frame.pts_s + self._every_s
            self.written += 1

    def close(self) -> None:
        """Do nothing: every file is complete already."""


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    sink = Snapshots(arguments.folder)
    with (
        open_backend("auto", "icnet-camvid") as backend,
        Pipeline(open_source(arguments.source), backend, [sink], Overlay(backend.spec)) as pipeline,
    ):
        ended = pipeline.run()
    print(f"{ended}: {sink.written} images in {arguments.folder}")


if __name__ == "__main__":
    try:
        main()
    except RtsegError as error:
        sys.exit(f"error: {error}")
