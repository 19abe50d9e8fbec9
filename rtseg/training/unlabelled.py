"""Frames of a video, a camera or a folder of images as training images without labels."""

from __future__ import annotations

import math
from contextlib import closing

import numpy as np

from rtseg.datasets import Dataset, ReadFile
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.sources import SourceOptions, open_source
from rtseg.system.opencv import cv2
from rtseg.system.read_file import read_image_bytes

__all__ = ["UNLABELLED", "UnlabelledFrames"]

UNLABELLED = 254
"""Label of all pixels; the teachers replace it. Void (255) is what lies outside the image."""
_JPEG_QUALITY = 95


class UnlabelledFrames(Dataset):
    """Frames of a source, read once and kept in memory as JPEG.

    Args:
        source: see ``rtseg.sources.open_source``.
        like: has the classes.
        limit: largest number of frames.

    Raises:
        SourceError, OptionError: the source cannot be read.
        DatasetError: it has no frames, or there are too many classes, or the data have an extra channel.
    """

    licence = "unlabelled images"

    def __init__(self, source: str, like: Dataset, limit: int) -> None:
        self.classes, self.palette = like.classes, like.palette
        if len(self.classes) > UNLABELLED:
            raise DatasetError(f"--unlabelled needs at most {UNLABELLED} classes, the data have {len(self.classes)}")
        if like.channels != self.channels:
            raise DatasetError(f"--unlabelled has images of 3 channels, the data have {like.channels}: leave it out")
        self._frames = _read_frames(source, limit)
        if not self._frames:
            raise DatasetError(f"--unlabelled {source} has no frames: give a video or a folder of images")
        self.name = f"{len(self._frames)} unlabelled frames"

    def __len__(self) -> int:
        return len(self._frames)

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``; every label is ``UNLABELLED``."""
        image = np.asarray(cv2.imdecode(np.frombuffer(self._frames[index], np.uint8), cv2.IMREAD_COLOR), np.uint8)
        return image, np.full(image.shape[:2], UNLABELLED, np.uint8)


def _read_frames(where: str, limit: int) -> list[bytes]:
    """Return at most ``limit`` frames as JPEG, evenly spaced if the number of frames is known."""
    source = open_source(where, SourceOptions())
    frames: list[bytes] = []
    iterator = iter(source)
    with closing(iterator):  # type: ignore[type-var]
        for number, frame in enumerate(iterator):
            stride = math.ceil(source.frame_count / limit) if source.frame_count else 1
            if number % stride == 0:
                written, data = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
                assert written, "OpenCV writes JPEG"
                frames.append(data.tobytes())
            if len(frames) >= limit:
                source.stop()
                break
    return frames
