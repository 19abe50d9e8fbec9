"""Compute the background of a scene from its frames: ``rtseg background`` as a Python API.

Averaging removes moving objects and keeps what is the same in all frames, such as uneven light or dust on a lens. The
preprocessing step ``background:FILE`` subtracts it, see ``rtseg.preprocess.subtract_background``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.app.options import BackgroundOptions
from rtseg.errors import OptionError, SourceError
from rtseg.frame import Image
from rtseg.preprocess import resize
from rtseg.sources import open_source
from rtseg.sources.base import Source
from rtseg.system.atomic_files import check_writable, write_bytes
from rtseg.system.opencv import cv2

__all__ = ["MEDIAN_FRAMES", "Background", "make_background", "mean_image", "median_image"]

MEDIAN_FRAMES = 31
"""Default number of frames of a median. It is odd, so each value occurs in a frame."""

_BAND_ROWS = 64
"""The median is computed for this many rows at once, because it needs twice their memory."""

OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Background:
    """The result of ``make_background``."""

    image: Image
    """uint8 (H, W, C), with C = 1 if all frames are grey, else 3."""
    frames: int
    """Number of frames used."""
    damaged: int
    """Number of frames that could not be read and were skipped."""
    damaged_names: tuple[str, ...] = ()
    """Their names, for frames from image files."""


def make_background(options: BackgroundOptions, on_progress: OnProgress = lambda done, total: None) -> Background:
    """Read the frames, average them, write the image.

    Args:
        options: See ``BackgroundOptions``.
        on_progress: Called after each frame with the number of frames done and the total, if known.

    Raises:
        OptionError: The output already exists or is one of the frames, or the source has no known end and no number
            of frames was given.
        SourceError: The source cannot be read or is empty, or its frames differ in size or mix grey and colour.
        SinkError: The output cannot be written.
    """
    source = open_source(options.frames, options.source)
    _check_output(options)
    check_writable(options.output, f"--output {options.output}")
    count = options.count if options.count is not None or not options.median else MEDIAN_FRAMES
    images = _SelectedFrames(source, count, options.size, on_progress)
    image = (median_image if options.median else mean_image)(iter(images))
    write_bytes(options.output, cv2.imencode(".png", image)[1].tobytes())
    return Background(image, images.used, source.damaged, tuple(source.damaged_names))


def mean_image(images: Iterator[Image]) -> Image:
    """Return the rounded mean of images of one shape, uint8 (H, W, C).

    Keeps one image and a float32 sum in memory. The sum is exact up to 65793 images (255 x 65793 < 2^24, below which
    float32 represents all integers).

    Raises:
        ValueError: There is no image.
    """
    total: NDArray[np.float32] | None = None
    count = 0
    for image in images:
        if total is None:
            total = np.zeros(image.shape, np.float32)
        cv2.accumulate(image, total)
        count += 1
    if total is None:
        raise ValueError("a mean needs at least one image")
    total /= count
    return np.asarray(np.rint(total, out=total), dtype=np.uint8)


def median_image(images: Iterator[Image]) -> Image:
    """Return the rounded median of images of one shape, uint8 (H, W, C). All images are in memory at once.

    For an even number of images it is the mean of the middle two.

    Raises:
        ValueError: There is no image.
    """
    stack = list(images)
    if not stack:
        raise ValueError("a median needs at least one image")
    out = np.empty_like(stack[0])
    for top in range(0, len(out), _BAND_ROWS):
        band = np.stack([image[top : top + _BAND_ROWS] for image in stack])
        out[top : top + _BAND_ROWS] = np.rint(np.median(band, axis=0))
    return out


class _SelectedFrames:
    """Iterates over the images to average, checked and resized. ``used`` counts them."""

    def __init__(
        self, source: Source, count: int | None, size: tuple[int, int] | None, on_progress: OnProgress
    ) -> None:
        self.used = 0
        self._source = source
        self._count = count
        self._size = size
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Image]:
        source = self._source
        first: tuple[int, ...] | None = None
        with closing(iter(source)) as frames:  # type: ignore[type-var]  # a generator, so that close() closes the source
            for index, frame in enumerate(frames):
                shape = frame.image.shape
                first = first or shape
                if shape != first:
                    name = frame.name or f"frame {index}"
                    raise SourceError(
                        f"{source.name}: {name} is {_describe_shape(shape)}, the first is {_describe_shape(first)}: "
                        "give frames of one size, all grey or all in colour"
                    )
                if not self._is_selected(index):
                    continue
                self.used += 1
                yield frame.image if self._size is None else resize(frame.image, self._size)
                self._on_progress(self.used, self._total())
                if self.used == self._count:
                    return
        if first is None:
            raise SourceError(f"{source.name} has no frames: give another source")

    def _is_selected(self, index: int) -> bool:
        """Return whether a frame is one of ``count`` frames spread evenly over the source.

        Raises:
            OptionError: There is no number of frames, and the source has no known end.
        """
        length = None if self._source.live else self._source.frame_count
        if self._count is None:
            if length is None:
                raise OptionError(f"{self._source.name} has no known end: set the number of frames with --frames")
            return True
        return length is None or length <= self._count or index * self._count % length < self._count

    def _total(self) -> int | None:
        length = None if self._source.live else self._source.frame_count
        counts = [count for count in (length, self._count) if count is not None]
        return min(counts, default=None)


def _describe_shape(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]} {'grey' if shape[2] == 1 else 'in colour'}"


def _check_output(options: BackgroundOptions) -> None:
    """Raise OptionError if the output would replace a frame, or a file without ``overwrite``."""
    output = options.output
    if not output.exists():
        return
    if not options.overwrite:
        raise OptionError(f"{output} already exists: give another --output, or use --overwrite")
    if any(path.exists() and os.path.samefile(output, path) for path in _local_files(options.frames)):  # noqa: PTH121
        raise OptionError(f"--output {output} is one of the frames: give another name")


def _local_files(frames: str) -> Iterator[Path]:
    """Yield the local files that the source ``frames`` reads."""
    from rtseg.image_io.find import find_files
    from rtseg.sources.images import ImagesSource

    if isinstance(open_source(frames), ImagesSource):
        yield from (path for path in find_files(frames) if isinstance(path, Path))
    else:
        yield Path(frames)
