"""The still part of a scene, found in its frames: what ``rtseg background`` does, for programs too.

What is the same in all frames (the light of an instrument, dust on its lenses) is left where what moves is averaged
out. The preprocessing step ``background:FILE`` subtracts it, see ``rtseg.preprocess.subtract_background``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import OptionError, SourceError
from rtseg.frame import Image
from rtseg.preprocess import resize
from rtseg.sources import open_source
from rtseg.sources.base import Source, SourceOptions
from rtseg.system.atomic_files import check_writable, write_bytes
from rtseg.system.opencv import cv2

__all__ = ["MEDIAN_FRAMES", "Background", "BackgroundOptions", "make_background", "mean_image", "median_image"]

MEDIAN_FRAMES = 31
"""Frames of a median, unless more or fewer are asked for: odd, so that each value is one that was seen."""

_BAND = 64
"""Rows of which the median is taken at once: the work needs twice their memory."""

OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class BackgroundOptions:
    """What to average, how, and where the image goes.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    frames: str
    """As ``--source`` of ``rtseg stream``; see ``rtseg.sources.open_source``."""
    output: Path
    """A PNG file of 8 bits; grey where all frames are."""
    median: bool = False
    """The median in place of the mean: a thing that stands in a few frames leaves no trace. All frames that it is taken
    of are in memory at once."""
    count: int | None = None
    """Take at most so many frames, spread evenly where the source tells how many it has, else the first. All, or
    ``MEDIAN_FRAMES`` of a median, unless given."""
    size: tuple[int, int] | None = None
    """(H, W) in pixels to resize each frame to; the frames' own unless given."""
    overwrite: bool = False
    """Whether the output may take the place of a file that is there already."""
    source: SourceOptions = field(default_factory=SourceOptions)

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".png":
            raise OptionError(f"--output must end in .png, got {self.output}")
        if self.count is not None and self.count < 1:
            raise OptionError(f"--frames must be at least 1, got {self.count}")
        if self.size is not None and not all(1 <= length <= 1 << 15 for length in self.size):
            raise OptionError(f"--size must be 1 to {1 << 15} pixels each, got {self.size[0]}x{self.size[1]}")


@dataclass(frozen=True, slots=True)
class Background:
    """What was made."""

    image: Image
    """uint8 (H, W, C), C = 1 of grey frames, else 3."""
    frames: int
    """Of which it was made."""
    damaged: int
    """Frames that could not be used and were left out."""


def make_background(options: BackgroundOptions, on_progress: OnProgress = lambda done, total: None) -> Background:
    """Read the frames, average them, write the image.

    Args:
        options: what to do.
        on_progress: called after every frame with how many are done, and of how many, if that is known.

    Raises:
        OptionError: the output is there already or is one of the frames, or the source has no known end and no number
            of frames was given.
        SourceError: the source cannot be read, is empty, or its frames differ in size, or some are grey and some not.
        SinkError: the output cannot be written.
    """
    source = open_source(options.frames, options.source)
    _refuse_clash(options)
    check_writable(options.output, f"--output {options.output}")
    count = options.count if options.count is not None or not options.median else MEDIAN_FRAMES
    images = _Chosen(source, count, options.size, on_progress)
    image = (median_image if options.median else mean_image)(iter(images))
    write_bytes(options.output, cv2.imencode(".png", image)[1].tobytes())
    return Background(image, images.taken, source.damaged)


def mean_image(images: Iterator[Image]) -> Image:
    """The mean of images of one shape, uint8 (H, W, C), rounded; in memory is one image, and a sum in float32.

    The sum is exact up to 65793 images (255 times as many is 2^24, up to which float32 holds every whole number).

    Raises:
        ValueError: there is no image.
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
    """The median of each value over images of one shape, uint8 (H, W, C), rounded; all of them are in memory at once.

    Of an even number it is the mean of the middle two.

    Raises:
        ValueError: there is no image.
    """
    held = list(images)
    if not held:
        raise ValueError("a median needs at least one image")
    out = np.empty_like(held[0])
    for top in range(0, len(out), _BAND):
        band = np.stack([image[top : top + _BAND] for image in held])
        out[top : top + _BAND] = np.rint(np.median(band, axis=0))
    return out


class _Chosen:
    """The images of a source that are averaged, checked and of the wanted size; ``taken`` counts them."""

    def __init__(
        self, source: Source, count: int | None, size: tuple[int, int] | None, on_progress: OnProgress
    ) -> None:
        self.taken = 0
        self._source = source
        self._count = count
        self._size = size
        self._observe = on_progress

    def __iter__(self) -> Iterator[Image]:
        source = self._source
        first: tuple[int, ...] | None = None
        with closing(iter(source)) as frames:  # type: ignore[type-var]  # a generator, which closes the source
            for place, frame in enumerate(frames):
                shape = frame.image.shape
                first = first or shape
                if shape != first:
                    name = frame.name or f"frame {place}"
                    raise SourceError(
                        f"{source.name}: {name} is {_in_words(shape)}, the first is {_in_words(first)}: "
                        "give frames of one size and kind"
                    )
                if not self._wants(place):
                    continue
                self.taken += 1
                yield frame.image if self._size is None else resize(frame.image, self._size)
                self._observe(self.taken, self._total())
                if self.taken == self._count:
                    return
        if first is None:
            raise SourceError(f"{source.name} gives no frame: give another source")

    def _wants(self, place: int) -> bool:
        """Whether the frame at ``place`` is one of ``count`` that are spread evenly over the source.

        Raises:
            OptionError: nobody said when to stop, and the source does not, either.
        """
        known = None if self._source.live else self._source.frame_count
        if self._count is None:
            if known is None:
                raise OptionError(f"{self._source.name} has no end that is known: say with --frames how many to take")
            return True
        return known is None or known <= self._count or place * self._count % known < self._count

    def _total(self) -> int | None:
        known = None if self._source.live else self._source.frame_count
        counts = [count for count in (known, self._count) if count is not None]
        return min(counts, default=None)


def _in_words(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]} {'grey' if shape[2] == 1 else 'in colour'}"


def _refuse_clash(options: BackgroundOptions) -> None:
    """Raises OptionError where the output would take the place of a frame, or of a file that may not be replaced."""
    output = options.output
    if not output.exists():
        return
    if not options.overwrite:
        raise OptionError(f"{output} is there already: give another --output, or --overwrite to replace it")
    if any(found.exists() and os.path.samefile(output, found) for found in _files(options.frames)):  # noqa: PTH121
        raise OptionError(f"--output {output} is one of the frames: give another name")


def _files(frames: str) -> Iterator[Path]:
    """The files of this machine that ``frames`` stands for."""
    from rtseg.image_io.find import find_files
    from rtseg.sources.images import ImagesSource

    if isinstance(open_source(frames), ImagesSource):
        yield from (found for found in find_files(frames) if isinstance(found, Path))
    else:
        yield Path(frames)
