"""Base class of data sets that consist of image files and mask files."""

from __future__ import annotations

import unicodedata
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.class_mapping import ClassMapping
from rtseg.datasets.mask_files import read_mask
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import ImageError, decode_image
from rtseg.image_io.find import list_folder
from rtseg.image_io.header import read_header
from rtseg.image_io.notes import ImageNotes, NoteImage
from rtseg.system.read_file import read_image_bytes

__all__ = ["Pair", "PairedFiles", "index_by_key", "list_images", "read_image"]


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask."""

    image: Path
    mask: Path


class PairedFiles(Dataset):
    """A data set in which each item is an image file and a mask file."""

    pairs: list[Pair]
    tolerance = 0
    """Pixels by which the height and width of a mask may differ from its image; both are cropped to the common size."""

    def __len__(self) -> int:
        return len(self.pairs)

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return str(self.pairs[index].image)

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return self.pairs[index].image, self.pairs[index].mask

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        pair = self.pairs[index]
        contents = {path: _read(path, noun, read) for path, noun in ((pair.image, "image"), (pair.mask, "mask"))}
        note = self.notes.for_file(str(pair.image))
        image = read_image(pair.image, self.channels, contents.__getitem__, bits=self.bits, note=note)
        mask = read_mask(pair.mask, contents.__getitem__)
        labels = self.mapping(pair.mask).labels(mask, pair.mask)
        header = read_header(contents[pair.image])
        if header is not None and header.orientation != mask.orientation:
            self.notes.add(str(pair.mask), "orientation")
        if labels.shape == image.shape[:2]:
            return image, labels
        (height, width), (mask_height, mask_width) = image.shape[:2], labels.shape
        if max(abs(height - mask_height), abs(width - mask_width)) > self.tolerance:
            rotated = (height, width) == (mask_width, mask_height)
            advice = "its EXIF tag rotates the image, save it rotated" if rotated else "the sizes must be equal"
            raise DatasetError(
                f"{pair.mask} is {mask_height}x{mask_width}, its image {pair.image} {height}x{width}: {advice}"
            )
        height, width = min(height, mask_height), min(width, mask_width)
        return image[:height, :width], labels[:height, :width]

    @abstractmethod
    def mapping(self, mask: Path) -> ClassMapping:
        """Return the mapping from the values in the file ``mask`` to classes."""


def _read(path: Path, noun: str, read: ReadFile) -> bytes:
    try:
        return read(path)
    except OSError as error:
        raise DatasetError(f"cannot read the {noun} {path}: {error.strerror}") from error


def read_image(
    path: Path,
    channels: int = 3,
    read: ReadFile = read_image_bytes,
    *,
    bits: int | None = None,
    note: NoteImage | None = None,
) -> Image:
    """Read an image, uint8 (H, W, channels), BGR for 3 channels; see ``decode_image``.

    Raises:
        DatasetError: the file is missing or damaged, or lacks the extra channel that 2 and 4 channels need.
    """
    try:
        return decode_image(read(path), channels, bits=bits, note=note)
    except OSError as error:
        raise DatasetError(f"cannot read the image {path}: {error.strerror}") from error
    except ImageError as error:
        raise DatasetError(f"the image {path} {error}") from error


def list_images(folder: Path, notes: ImageNotes | None = None) -> list[Path]:
    """List the images in ``folder``, without its subfolders, in natural order; see ``list_folder``.

    Raises:
        DatasetError: the folder does not exist or cannot be read.
    """
    try:
        return list_folder(folder, notes)
    except OSError as error:
        raise DatasetError(f"cannot read the folder {folder}: {error.strerror}") from error


def index_by_key(
    paths: Iterable[Path], noun: str, key_of: Callable[[Path], str | None]
) -> tuple[dict[str, Path], list[str]]:
    """Index files by their key, and describe every duplicate key.

    Args:
        paths: the files; the first one with a key is kept.
        noun: what messages call the files, e.g. ``images``.
        key_of: returns the key of a file, or None to skip it. Keys are returned in the Unicode form NFC.
    """
    by_key: dict[str, Path] = {}
    problems: list[str] = []
    for path in paths:
        key = key_of(path)
        key = unicodedata.normalize("NFC", key) if key is not None else None
        if key is not None and by_key.setdefault(key, path) != path:
            problems.append(f"two {noun} have the name {key!r}: {by_key[key]} and {path.name}")
    return by_key, problems
