"""A selection of the images of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtseg.datasets import Dataset, ReadFile
from rtseg.frame import Image, Labels
from rtseg.system.read_file import read_image_bytes

__all__ = ["Subset"]


class Subset(Dataset):
    """Some images of a data set, in its order.

    Args:
        dataset: the data set.
        indices: of the images, ascending.
        name: for messages.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], name: str) -> None:
        self._dataset, self._indices = dataset, indices
        self.classes, self.palette, self.licence = dataset.classes, dataset.palette, dataset.licence
        self.supported_channels, self.channels, self.bits = dataset.supported_channels, dataset.channels, dataset.bits
        self.name = name
        self.notes = dataset.notes

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        return self._dataset.load(self._indices[index], epoch, read)

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return self._dataset.files(self._indices[index])

    def sequence(self, index: int) -> str | None:
        """See ``Dataset.sequence``. Frames on both sides of a gap are of different videos."""
        video = self._dataset.sequence(self._indices[index])
        return None if video is None else f"{video} from {self._indices[index] - index}"

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return self._dataset.title(self._indices[index])
