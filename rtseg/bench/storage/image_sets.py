"""The images that are read: drawn, copied from the user's, or the user's own where they lie."""

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

__all__ = ["DrawnOptions", "ImageSet", "copied", "drawn", "taken"]

_PREFIX = "rtseg-bench-"
_DISTINCT = 8
"""Images that differ; the others are copies. No storage that is measured here looks into files."""
_SMALLEST, _LARGEST = 64, 16384
_QUALITY = 90
_HEAD = 2**16


@dataclass(frozen=True, slots=True)
class DrawnOptions:
    """What is drawn.

    Raises:
        OptionError: a value is out of range.
    """

    images: int = 100
    size: tuple[int, int] = (3072, 3072)
    """(H, W) in pixels."""
    format: str = "png"
    """``png``: interferograms, 8 bits, grey. ``jpg``: a street, in colour, of quality 90."""

    def __post_init__(self) -> None:
        if self.images < 2:
            raise OptionError(f"--images must be at least 2, for a rate; got {self.images}")
        if self.format not in ("png", "jpg"):
            raise OptionError(f"--format must be png or jpg, got {self.format!r}")
        if not all(_SMALLEST <= length <= _LARGEST for length in self.size):
            raise OptionError(f"--size must be within {_SMALLEST} .. {_LARGEST}, got {self.size[0]}x{self.size[1]}")


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images in a folder."""

    folder: Path
    paths: list[Path]
    size_bytes: int
    facts: dict[str, Any]
    """What a report says of them; the same for every copy of one set."""

    def __post_init__(self) -> None:
        if len(self.paths) < 2:
            raise OptionError(f"{self.folder} holds one image; a rate needs at least 2: give another --data")


@contextmanager
def drawn(options: DrawnOptions, parent: Path | None) -> Iterator[ImageSet]:
    """Draw a set into a new folder in ``parent`` (None: that for temporary files), which is removed at the end.

    Raises:
        SinkError: it cannot be written.
    """
    with _own_folder(parent) as folder:
        _draw(options, folder)
        facts = {"drawn": True, "distinct": min(_DISTINCT, options.images)}
        yield _set_of(folder, facts)


@contextmanager
def copied(data: Path, parent: Path) -> Iterator[ImageSet]:
    """Copy the user's images into a new folder in ``parent``, which is removed at the end.

    Raises:
        SourceError: there are none, or they cannot be read.
        SinkError: they cannot be written.
    """
    found = find_images(data)
    with _own_folder(parent) as folder:
        _check_room(folder, sum(path.stat().st_size for path in found))
        with _write_errors(folder):
            for path in found:
                shutil.copyfile(path, folder / path.name)
        yield _set_of(folder, {"drawn": False, "distinct": len(found)})


def taken(data: Path) -> ImageSet:
    """The user's images where they lie; nothing is written or removed.

    Raises:
        SourceError: there are none, or they cannot be read.
    """
    return _set_of(data, {"drawn": False, "distinct": len(find_images(data))})


def _set_of(folder: Path, facts: dict[str, Any]) -> ImageSet:
    paths = find_images(folder)
    sizes = [path.stat().st_size for path in paths]
    with paths[0].open("rb") as file:
        head = read_header(file.read(_HEAD))
    first = {"kind": head.kind, "size": [head.height, head.width], "channels": head.channels} if head else {}
    formats = sorted({path.suffix.lower() for path in paths})
    more = {"images": len(paths), "bytes": sum(sizes), "formats": formats, "first": first}
    return ImageSet(folder, paths, sum(sizes), more | facts)


@contextmanager
def _own_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder that nobody else has files in; removed however the body ends."""
    with _write_errors(parent or Path(tempfile.gettempdir())):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _write_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SinkError(f"the images cannot be written in {place} ({error.strerror}): give another place") from error


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        wanted = f"the images need {size / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} free"
        raise SinkError(f"{wanted}: give another place or fewer --images")


def _draw(options: DrawnOptions, folder: Path) -> None:
    base = _interferogram(options.size) if options.format == "png" else _street(options.size)
    arguments = [] if options.format == "png" else [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    distinct = min(_DISTINCT, options.images)
    step = max(1, options.size[1] // distinct)
    encoded = [
        cv2.imencode(f".{options.format}", np.roll(base, step * place, axis=1), arguments)[1].tobytes()
        for place in range(distinct)
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
