"""The images to read: drawn ones, copies of the user's images, or the user's images in their own folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Image
from rtseg.image_io.find import find_images
from rtseg.image_io.header import read_header
from rtseg.system.opencv import cv2

__all__ = ["DrawnOptions", "ImageSet", "copy_images", "draw_images", "use_images"]

_PREFIX = "rtseg-bench-"
_DISTINCT = 8
"""How many images differ; the others are copies, because no storage measured here deduplicates files."""
_SMALLEST, _LARGEST = 64, 16384
_JPEG_QUALITY = 90
_HEADER_BYTES = 2**16
"""Enough for the header of any image file."""


@dataclass(frozen=True, slots=True)
class DrawnOptions:
    """Which images to draw.

    Raises:
        OptionError: a value is out of range.
    """

    images: int = 100
    size: tuple[int, int] = (3072, 3072)
    """(H, W) in pixels."""
    format: str = "png"
    """``png``: interferograms, 8 bits, grey. ``jpg``: a street, in colour, quality 90."""

    def __post_init__(self) -> None:
        if self.images < 2:
            raise OptionError(f"--images must be at least 2 to measure a rate, got {self.images}")
        if self.format not in ("png", "jpg"):
            raise OptionError(f"--format must be png or jpg, got {self.format!r}")
        height, width = self.size
        if not all(_SMALLEST <= length <= _LARGEST for length in self.size):
            raise OptionError(f"--image-size must be within {_SMALLEST} .. {_LARGEST}, got {height}x{width}")


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images in a folder."""

    folder: Path
    paths: list[Path]
    size_bytes: int
    facts: dict[str, Any]
    """The entry ``images`` of the result; the same for every copy of one set."""

    def __post_init__(self) -> None:
        if len(self.paths) < 2:
            raise OptionError(f"{self.folder} contains one image: a rate needs at least 2, give another --data")


@contextmanager
def draw_images(options: DrawnOptions, parent: Path | None) -> Iterator[ImageSet]:
    """Draw images into a new folder in ``parent`` (None: the folder for temporary files), which is removed afterwards.

    Raises:
        SinkError: they cannot be written.
    """
    with _new_folder(parent) as folder:
        _draw(options, folder)
        facts = {"drawn": True, "distinct": min(_DISTINCT, options.images)}
        yield _make_set(folder, facts)


@contextmanager
def copy_images(data: Path, parent: Path) -> Iterator[ImageSet]:
    """Copy the user's images into a new folder in ``parent``, which is removed afterwards.

    Raises:
        SourceError: there are no images, or they cannot be read.
        SinkError: they cannot be written.
    """
    paths = find_images(data)
    with _new_folder(parent) as folder:
        _check_room(folder, sum(path.stat().st_size for path in paths))
        with _write_errors(folder):
            for path in paths:
                shutil.copyfile(path, folder / path.name)
        yield _make_set(folder, {"drawn": False, "distinct": len(paths)})


def use_images(data: Path) -> ImageSet:
    """Use the user's images in their own folder; nothing is written or removed.

    Raises:
        SourceError: there are no images, or they cannot be read.
    """
    return _make_set(data, {"drawn": False, "distinct": len(find_images(data))})


def _make_set(folder: Path, facts: dict[str, Any]) -> ImageSet:
    paths = find_images(folder)
    sizes = [path.stat().st_size for path in paths]
    with paths[0].open("rb") as file:
        header = read_header(file.read(_HEADER_BYTES))
    first = {"kind": header.kind, "size": [header.height, header.width], "channels": header.channels} if header else {}
    formats = sorted({path.suffix.lower() for path in paths})
    counts = {"images": len(paths), "bytes": sum(sizes), "formats": formats, "first": first}
    return ImageSet(folder, paths, sum(sizes), counts | facts)


@contextmanager
def _new_folder(parent: Path | None) -> Iterator[Path]:
    """Create a folder, and remove it when the ``with`` block ends in any way."""
    with _write_errors(parent or Path(tempfile.gettempdir())):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SinkError(f"the images cannot be written to {folder} ({error.strerror}): give another folder") from error


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        shortage = f"the images need {size / 1e9:.1f} GB, but {folder.parent} has {free / 1e9:.1f} GB free"
        raise SinkError(f"{shortage}: give another folder or fewer --images")


def _draw(options: DrawnOptions, folder: Path) -> None:
    base = _interferogram(options.size) if options.format == "png" else _street(options.size)
    arguments = [] if options.format == "png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    distinct = min(_DISTINCT, options.images)
    step = max(1, options.size[1] // distinct)
    encoded = [
        cv2.imencode(f".{options.format}", np.roll(base, step * index, axis=1), arguments)[1].tobytes()
        for index in range(distinct)
    ]
    _check_room(folder, options.images * max(map(len, encoded)))
    with _write_errors(folder):
        for number in range(options.images):
            path = folder / f"image_{number:05d}.{options.format}"
            path.write_bytes(encoded[number % distinct])


def _interferogram(size: tuple[int, int]) -> Image:
    from rtseg.synthetic.fringes import draw_interferogram

    return draw_interferogram(size, (0, 0))[0]


def _street(size: tuple[int, int]) -> Image:
    from rtseg.synthetic.street import Street

    return Street(size).render(2.0)[0]
