"""Images with boxes around objects, drawn by ``rtseg label``, loaded as masks of two classes.

``boxes.csv`` is in the folder of the images. It has one line for each box, and a line without numbers for an image
without objects::

    image,x,y,width,height,image_width,image_height
    a.jpg,10,20,30,40,640,480
    b.jpg,,,,,640,480

x and y are the coordinates of the top left pixel of the box, from 0, in the image rotated by its EXIF tag. The last two
columns are optional; with them, an image that was resized later is detected.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.class_mapping import Colour
from rtseg.datasets.paired_files import list_images, read_image
from rtseg.datasets.spec_string import parse_spec_string
from rtseg.datasets.splits import select_split
from rtseg.errors import DatasetError, SinkError
from rtseg.frame import CHANNELS, Image, Labels
from rtseg.system.atomic_files import write_text
from rtseg.system.read_file import read_image_bytes, read_text

__all__ = [
    "BACKGROUND",
    "BOXES_FILE",
    "OBJECT",
    "PALETTE",
    "Box",
    "Boxes",
    "ImageBoxes",
    "box_mask",
    "read_boxes",
    "write_boxes",
]

BOXES_FILE: Final = "boxes.csv"
BACKGROUND: Final = "background"
OBJECT: Final = "object"
PALETTE: Final[tuple[Colour, Colour]] = ((40, 44, 52), (255, 149, 0))

_OPTIONS = ("object", "val", "test", "lists", "bits")
_BOX_COLUMNS = ("x", "y", "width", "height")
_SIZE_COLUMNS = ("image_width", "image_height")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels: columns x .. x + width - 1, rows y .. y + height - 1.

    Raises:
        DatasetError: the box is empty or begins outside the image.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise DatasetError(f"a box must have x, y of at least 0 and a width, height of at least 1, got {self.text}")

    @property
    def text(self) -> str:
        """Text for messages, e.g. ``30x40 at 10,20``."""
        return f"{self.width}x{self.height} at {self.x},{self.y}"


@dataclass(frozen=True, slots=True)
class ImageBoxes:
    """The boxes on one image."""

    boxes: tuple[Box, ...]
    size: tuple[int, int] | None
    """(H, W) of the image when the boxes were drawn; None if unknown."""


class Boxes(Dataset):
    """Images with boxes, as ``boxes:FOLDER``. Images that ``boxes.csv`` does not name are left out.

    Options: ``object=NAME`` names the class; ``val``, ``test`` and ``lists`` select the split, see
    ``rtseg.datasets.splits``; ``bits`` is the number of significant bits of images stored with 16. The key of an image
    is its file name.

    Raises:
        OptionError: the text after ``boxes:`` is malformed.
        DatasetError: ``boxes.csv`` is missing, malformed or empty, or the split is empty.
    """

    palette = PALETTE
    supported_channels = CHANNELS

    def __init__(self, argument: str, split: str) -> None:
        spec = parse_spec_string("boxes", argument, fields=["FOLDER"], options=_OPTIONS)
        self.folder = spec.path(0)
        self.bits = spec.bits()
        self.classes = (BACKGROUND, spec.options.get("object", OBJECT))
        if self.classes[1] == BACKGROUND:
            raise spec.error(f"object must not be {BACKGROUND!r}")
        csv_path = self.folder / BOXES_FILE
        self._boxes = read_boxes(csv_path)
        if not self._boxes:
            raise DatasetError(f"{csv_path} names no image: draw boxes with `rtseg label {self.folder}`")
        images = {unicodedata.normalize("NFC", path.name): path for path in list_images(self.folder, self.notes)}
        self._paths = images
        missing = [name for name in self._boxes if name not in images]
        self.problems = tuple(f"{csv_path} names {name}, which does not exist" for name in missing)
        self._names = [name for name in select_split(list(self._boxes), split, spec) if name in images]
        title = self.folder.resolve().name
        labelled = f"{len(self._boxes)} of {len(images)} labelled"
        self.name = f"boxes of {title} {split} ({len(self._names)} images, {labelled})"
        self.licence = f"{title}: not stated"

    def __len__(self) -> int:
        return len(self._names)

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return str(self._paths[self._names[index]])

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return (self._paths[self._names[index]],)

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        name = self._names[index]
        path = self._paths[name]
        image = read_image(path, self.channels, read, bits=self.bits, note=self.notes.for_file(str(path)))
        return image, box_mask(self._boxes[name], image, path)


def box_mask(boxes: ImageBoxes, image: Image, path: Path) -> Labels:
    """Return the mask of ``image``, uint8 (H, W): 1 inside the boxes, 0 elsewhere.

    Raises:
        DatasetError: the image size has changed since the boxes were drawn, or a box extends beyond the image; the
            message names ``path``.
    """
    height, width = image.shape[:2]
    if boxes.size is not None and boxes.size != (height, width):
        raise DatasetError(f"{path} is {height}x{width}, but was {boxes.size[0]}x{boxes.size[1]} when it was labelled")
    labels = np.zeros((height, width), np.uint8)
    for box in boxes.boxes:
        if box.x + box.width > width or box.y + box.height > height:
            raise DatasetError(f"{path} is {height}x{width}, but its box {box.text} extends beyond the image")
        labels[box.y : box.y + box.height, box.x : box.x + box.width] = 1
    return labels


def read_boxes(path: Path) -> dict[str, ImageBoxes]:
    """Read the boxes of each image, in the order of the file.

    Raises:
        DatasetError: the file is missing or malformed; the message names the line.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DatasetError(f"cannot read {path} ({reason}): `rtseg label` writes it") from error
    rows = csv.DictReader(io.StringIO(text), strict=True)
    by_image: dict[str, tuple[list[Box], tuple[int, int] | None]] = {}
    try:
        if not {"image", *_BOX_COLUMNS} <= set(rows.fieldnames or ()):
            raise DatasetError(f"{path} must begin with the line {','.join(('image', *_BOX_COLUMNS, *_SIZE_COLUMNS))}")
        for row in rows:
            name = unicodedata.normalize("NFC", row["image"] or "")
            if not name:
                raise DatasetError("the image name is missing")
            boxes, size = by_image.setdefault(name, ([], _parse_size(row)))
            if size != _parse_size(row):
                raise DatasetError(f"{name} has two sizes")
            values = [row[column] or "" for column in _BOX_COLUMNS]
            if any(values):
                boxes.append(Box(*(_parse_pixels(value) for value in values)))
    except csv.Error as error:
        raise DatasetError(f"{path}, line {rows.reader.line_num}: {error}") from error
    except DatasetError as error:
        if rows.line_num < 2:
            raise
        raise DatasetError(f"{path}, line {rows.line_num}: {error}") from error
    return {name: ImageBoxes(tuple(boxes), size) for name, (boxes, size) in by_image.items()}


def write_boxes(path: Path, boxes: Mapping[str, ImageBoxes]) -> None:
    """Write the file that ``read_boxes`` reads, atomically.

    Raises:
        SinkError: the file cannot be written, or an image name is not UTF-8.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("image", *_BOX_COLUMNS, *_SIZE_COLUMNS))
    for name, entry in boxes.items():
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


def _parse_size(row: Mapping[str, str | None]) -> tuple[int, int] | None:
    width, height = (row.get(column) or "" for column in _SIZE_COLUMNS)
    return (_parse_pixels(height), _parse_pixels(width)) if width or height else None


def _parse_pixels(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,6}", text.strip()):
        raise DatasetError(f"{text!r} is not a whole number of pixels")
    return int(text.strip())  # int alone keeps some separators that strip removes
