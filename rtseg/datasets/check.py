"""What is wrong with labelled images, found before a training trips over it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.loader import Reader
from rtseg.errors import DatasetError
from rtseg.model_file.spec import VOID

__all__ = ["DataReport", "SplitReport", "check_data"]

_Track = Callable[[Iterable[int], str], Iterable[int]]


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What one split holds."""

    name: str
    split: str
    images: int
    """That could be read, with their labels."""
    sizes: tuple[tuple[int, int], ...]
    """(H, W) of images, each once, in order."""
    shares: dict[str, float]
    """Share of each class in all pixels, in [0, 1]."""
    void_share: float
    images_with: dict[str, int]
    """The number of images in which each class occurs."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "split": self.split,
            "images": self.images,
            "sizes": [list(size) for size in self.sizes],
            "shares": self.shares,
            "void_share": self.void_share,
            "images_with": self.images_with,
        }


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was found in all splits that were asked for."""

    data: str
    splits: tuple[SplitReport, ...]
    problems: tuple[str, ...]
    """A sentence each, with the files' names; empty where nothing will hurt."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "data": self.data,
            "splits": [split.to_dict() for split in self.splits],
            "problems": list(self.problems),
        }


def check_data(
    text: str, splits: Sequence[str], track: _Track = lambda places, _: places, *, channels: int = 3
) -> DataReport:
    """Read every image of ``splits`` and tell what is wrong.

    Found are: files without partner, files that cannot be read, masks of another size than their image, numbers and
    colours that are not declared, images without a labelled pixel, classes that no image of a split has, and
    images that two splits share.

    Args:
        text: as for ``open_dataset``.
        splits: names of splits. One that cannot be opened is a problem, unless none can.
        track: wraps the places of a split and is told its name: for a progress bar.
        channels: that the images must have, as for ``open_dataset``.

    Raises:
        OptionError: ``text`` is malformed, or its kind has no images of ``channels``.
        DatasetError: no split can be opened.
    """
    problems: list[str] = []
    opened: list[tuple[str, Dataset]] = []
    refusals: list[DatasetError] = []
    for split in splits:
        try:
            opened.append((split, open_dataset(text, split, strict=False, channels=channels)))
        except DatasetError as error:
            refusals.append(error)
    if not opened:
        raise refusals[0]
    problems += [str(error) for error in refusals]
    for _, dataset in opened:
        problems += dataset.flaws
    seen: dict[bytes, tuple[str, str]] = {}
    reports = [_check_split(split, dataset, seen, problems, track) for split, dataset in opened]
    return DataReport(text, tuple(reports), tuple(dict.fromkeys(problems)))


def _check_split(
    split: str, dataset: Dataset, seen: dict[bytes, tuple[str, str]], problems: list[str], track: _Track
) -> SplitReport:
    """Read one split; adds to ``problems``, and to ``seen`` the split and the title of every image by its content."""
    pixels: NDArray[np.int64] = np.zeros(VOID + 1, np.int64)
    images_with: NDArray[np.int64] = np.zeros(VOID + 1, np.int64)
    sizes: set[tuple[int, int]] = set()
    read = 0
    with closing(Reader().attempt(dataset, track(range(len(dataset)), split))) as attempts:
        for place, loaded in attempts:
            if isinstance(loaded, DatasetError):
                problems.append(str(loaded))
                continue
            _, image, labels = loaded
            read += 1
            sizes.add((labels.shape[0], labels.shape[1]))
            counts = np.bincount(labels.ravel(), minlength=VOID + 1)
            pixels += counts
            images_with += counts > 0
            if counts[VOID] == labels.size:
                problems.append(f"{dataset.title(place)} teaches nothing: every pixel of its mask is void")
            content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
            other, title = seen.setdefault(content, (split, dataset.title(place)))
            if other != split:
                problems.append(f"{dataset.title(place)} in {split} is the same image as {title} in {other}")
    absent = [f"{name} ({class_id})" for class_id, name in enumerate(dataset.classes) if not pixels[class_id]]
    if absent and read:
        problems.append(f"no pixel of {split} has the class {', '.join(absent)}")
    total = max(1, int(pixels.sum()))
    return SplitReport(
        dataset.name,
        split,
        read,
        tuple(sorted(sizes)),
        {name: int(pixels[class_id]) / total for class_id, name in enumerate(dataset.classes)},
        int(pixels[VOID]) / total,
        {name: int(images_with[class_id]) for class_id, name in enumerate(dataset.classes)},
    )
