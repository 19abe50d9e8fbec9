"""Images with boxes drawn around objects (``rtseg label``), as masks of two classes.

``boxes.csv`` lies beside the images and has a line a box, and a line without a box for an image without objects::

    image,x,y,width,height,image_width,image_height
    a.jpg,10,20,30,40,640,480
    b.jpg,,,,,640,480

x and y are those of the top left pixel, from 0, in the image as it is shown (its EXIF tag obeyed). The last two
columns may be missing; where they stand, an image that was scaled since then is found out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from rtseg.datasets import Dataset, Read
from rtseg.datasets.class_mapping import Colour
from rtseg.datasets.paired_files import list_images, read_image
from rtseg.datasets.spec_string import parse_arguments
from rtseg.datasets.splits import choose
from rtseg.errors import DatasetError, SinkError
from rtseg.frame import CHANNELS, Image, Labels
from rtseg.system.atomic_files import write_text

__all__ = ["BACKGROUND", "FILE", "OBJECT", "PALETTE", "Box", "Boxes", "Drawn", "box_mask", "read_boxes", "write_boxes"]

FILE: Final = "boxes.csv"
BACKGROUND: Final = "background"
OBJECT: Final = "object"
PALETTE: Final[tuple[Colour, Colour]] = ((40, 44, 52), (255, 149, 0))

_PLACE = ("x", "y", "width", "height")
_SIZE = ("image_width", "image_height")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels: columns x .. x + width - 1, rows y .. y + height - 1.

    Raises:
        DatasetError: it is empty or begins outside of the image.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise DatasetError(f"a box wants x, y of at least 0 and a width and height of at least 1, got {self.text}")

    @property
    def text(self) -> str:
        """For messages, e.g. ``30x40 at 10,20``."""
        return f"{self.width}x{self.height} at {self.x},{self.y}"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn on one image."""

    boxes: tuple[Box, ...]
    size: tuple[int, int] | None
    """(H, W) of the image when it was drawn on; None where that is not known."""


class Boxes(Dataset):
    """``boxes:FOLDER``; images of the folder that no line of ``boxes.csv`` names are not labelled and left out.

    Options: ``object=NAME`` names the class, ``val``, ``test`` and ``lists`` split (see ``rtseg.datasets.splits``; the
    key of an image is its file name).

    Raises:
        OptionError: the text is malformed.
        DatasetError: ``boxes.csv`` is missing, malformed or empty, or the split is empty.
    """

    palette = PALETTE
    stores = CHANNELS

    def __init__(self, argument: str, split: str) -> None:
        arguments = parse_arguments("boxes", argument, places=["FOLDER"], options=("object", "val", "test", "lists"))
        self.folder = arguments.path(0)
        self.classes = (BACKGROUND, arguments.options.get("object", OBJECT))
        if self.classes[1] == BACKGROUND:
            raise arguments.wrong(f"object must be another name than {BACKGROUND!r}")
        listing = self.folder / FILE
        self._drawn = read_boxes(listing)
        if not self._drawn:
            raise DatasetError(f"{listing} names no image: draw boxes with `rtseg label {self.folder}`")
        images = {path.name for path in list_images(self.folder)}
        self.flaws = tuple(f"{listing} names {name}, which is not there" for name in self._drawn if name not in images)
        self._names = [name for name in choose(list(self._drawn), split, arguments) if name in images]
        labelled = f"{len(self._drawn)} of {len(images)} labelled"
        title = self.folder.resolve().name
        self.name = f"boxes of {title} {split} ({len(self._names)} images, {labelled})"
        self.licence = f"{title}: not stated"

    def __len__(self) -> int:
        return len(self._names)

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return str(self.folder / self._names[index])

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return (self.folder / self._names[index],)

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        name = self._names[index]
        image = read_image(self.folder / name, self.channels, read)
        return image, box_mask(self._drawn[name], image, self.folder / name)


def box_mask(drawn: Drawn, image: Image, path: Path) -> Labels:
    """1 inside of the boxes, 0 elsewhere: uint8 (H, W) of ``image``.

    Raises:
        DatasetError: the image has another size than when it was drawn on, or a box reaches over its edge; the text
            names ``path``.
    """
    height, width = image.shape[:2]
    if drawn.size is not None and drawn.size != (height, width):
        raise DatasetError(f"{path} is {height}x{width}, and was {drawn.size[0]}x{drawn.size[1]} when it was labelled")
    labels = np.zeros((height, width), np.uint8)
    for box in drawn.boxes:
        if box.x + box.width > width or box.y + box.height > height:
            raise DatasetError(f"{path} is {height}x{width}, and a box of it is {box.text}: it reaches over the edge")
        labels[box.y : box.y + box.height, box.x : box.x + box.width] = 1
    return labels


def read_boxes(path: Path) -> dict[str, Drawn]:
    """What was drawn on each image, in the order of the file.

    Raises:
        DatasetError: the file is missing or malformed; the text names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DatasetError(f"cannot read {path} ({why}): `rtseg label` writes it") from error
    rows = csv.DictReader(io.StringIO(text), strict=True)
    found: dict[str, tuple[list[Box], tuple[int, int] | None]] = {}
    try:
        if not {"image", *_PLACE} <= set(rows.fieldnames or ()):
            raise DatasetError(f"{path} must begin with the line {','.join(('image', *_PLACE, *_SIZE))}")
        for row in rows:
            name = row["image"] or ""
            if not name:
                raise DatasetError("there is no name of an image")
            boxes, size = found.setdefault(name, ([], _size(row)))
            if size != _size(row):
                raise DatasetError(f"{name} has two sizes")
            values = [row[column] or "" for column in _PLACE]
            if any(values):
                boxes.append(Box(*(_number(value) for value in values)))
    except csv.Error as error:
        raise DatasetError(f"{path}, line {rows.reader.line_num}: {error}") from error
    except DatasetError as error:
        if rows.line_num < 2:
            raise
        raise DatasetError(f"{path}, line {rows.line_num}: {error}") from error
    return {name: Drawn(tuple(boxes), size) for name, (boxes, size) in found.items()}


def write_boxes(path: Path, drawn: Mapping[str, Drawn]) -> None:
    """Write what ``read_boxes`` reads; the file is whole at every moment.

    Raises:
        SinkError: it cannot be written, or a name is not UTF-8.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("image", *_PLACE, *_SIZE))
    for name, entry in drawn.items():
        size = ("", "") if entry.size is None else (entry.size[1], entry.size[0])
        for box in entry.boxes:
            writer.writerow((name, box.x, box.y, box.width, box.height, *size))
        if not entry.boxes:
            writer.writerow((name, "", "", "", "", *size))
    text = out.getvalue()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SinkError(f"cannot write {path}: the name of an image is not UTF-8, rename it") from error
    write_text(path, text)


def _size(row: Mapping[str, str | None]) -> tuple[int, int] | None:
    width, height = (row.get(column) or "" for column in _SIZE)
    return (_number(height), _number(width)) if width or height else None


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,6}", text.strip()):
        raise DatasetError(f"{text!r} is no whole number of pixels")
    return int(text)
