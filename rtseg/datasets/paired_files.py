"""What all data made of image and mask files share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rtseg.datasets import Dataset, Read
from rtseg.datasets.class_mapping import MaskTable
from rtseg.datasets.mask_files import read_mask
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import ImageError, decode_image
from rtseg.image_io.find import IMAGE_SUFFIXES, natural_order

__all__ = ["Pair", "PairedFiles", "list_images", "partners", "read_image"]


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask."""

    image: Path
    mask: Path


class PairedFiles(Dataset):
    """A data set whose items are an image file and a mask file each."""

    pairs: list[Pair]
    tolerance = 0
    """By so many pixels a mask may differ from its image in height and width; both are cut to what they share."""

    def __len__(self) -> int:
        return len(self.pairs)

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return str(self.pairs[index].image)

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return self.pairs[index].image, self.pairs[index].mask

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        pair = self.pairs[index]
        image = read_image(pair.image, self.channels, read)
        labels = self.table(pair.mask).labels(read_mask(pair.mask, read), pair.mask)
        if labels.shape == image.shape[:2]:
            return image, labels
        (height, width), (mask_height, mask_width) = image.shape[:2], labels.shape
        if max(abs(height - mask_height), abs(width - mask_width)) > self.tolerance:
            turned = (height, width) == (mask_width, mask_height)
            why = ": its EXIF tag turns the image, save it turned" if turned else ": they must be alike"
            raise DatasetError(
                f"{pair.mask} is {mask_height}x{mask_width}, its image {pair.image} {height}x{width}{why}"
            )
        height, width = min(height, mask_height), min(width, mask_width)
        return image[:height, :width], labels[:height, :width]

    @abstractmethod
    def table(self, mask: Path) -> MaskTable:
        """How the file ``mask`` is to be read."""


def read_image(path: Path, channels: int = 3, read: Read = Path.read_bytes) -> Image:
    """The image in ``path``, uint8 (H, W, channels), BGR for 3; see ``decode_image``.

    Raises:
        DatasetError: it is missing or damaged, or holds no plane beside the colours where one is wanted.
    """
    try:
        return decode_image(read(path), channels)
    except OSError as error:
        raise DatasetError(f"cannot read the image {path}: {error.strerror}") from error
    except ImageError as error:
        raise DatasetError(f"the image {path} {error}") from error


def list_images(folder: Path) -> list[Path]:
    """The images in ``folder``, not in its subfolders, in natural order.

    Raises:
        DatasetError: the folder is not there or cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise DatasetError(f"cannot read the folder {folder}: {error.strerror}") from error
    return sorted((path for path in found if not path.name.startswith(".") and path.is_file()), key=natural_order)


def partners(
    files: Iterable[Path], what: str, key_of: Callable[[Path], str | None]
) -> tuple[dict[str, Path], list[str]]:
    """Files by their key, and a sentence for every two that have the same.

    Args:
        files: in order; the first of two with one key is kept.
        what: a word for them, e.g. ``images``.
        key_of: the key of a file, None for one that does not count.
    """
    found: dict[str, Path] = {}
    flaws: list[str] = []
    for path in files:
        key = key_of(path)
        if key is None:
            continue
        if found.setdefault(key, path) != path:
            flaws.append(f"two {what} have the name {key!r}: {found[key]} and {path.name}")
    return found, flaws
