"""Blur everything of some classes in a video, e.g. people and cars.

python examples/blur_class.py dashcam.mp4 blurred.mp4 --class Pedestrian --class Car
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from rtseg import VideoSink, open_backend, open_source
from rtseg.errors import RtsegError
from rtseg.preprocess import Prepare, resize_labels


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("output", type=Path)
    parser.add_argument("--class", dest="class_names", action="append", default=[])
    arguments = parser.parse_args()
    sink = VideoSink(arguments.output)
    with open_backend("auto", "icnet-camvid") as backend:
        prepare = Prepare(backend.spec)
        class_ids = [backend.spec.class_id(name) for name in arguments.class_names or ["Pedestrian", "Car"]]
        for frame in open_source(arguments.source):
            labels = backend.infer(prepare(frame.image)[None])[0]
            labels = resize_labels(labels, frame.image.shape[:2])
            hidden = np.isin(labels, class_ids).astype(np.uint8)
            hidden = cv2.dilate(hidden, np.ones((9, 9), np.uint8))  # labels are a little too small at edges
            blurred = cv2.blur(frame.image, (31, 31))
            sink.write(frame, labels, np.where(hidden[..., None] > 0, blurred, frame.image))
    sink.close()
    print(f"{sink.written} frames in {arguments.output}")


if __name__ == "__main__":
    try:
        main()
    except RtsegError as error:
        sys.exit(f"error: {error}")
