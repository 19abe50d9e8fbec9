"""Find problems in labelled images before training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.loader import DatasetReader
from rtseg.errors import DatasetError
from rtseg.metrics.confusion import absent_classes
from rtseg.model_file.spec import VOID

__all__ = ["DataReport", "SplitReport", "check_data"]

_Track = Callable[[Iterable[int], str], Iterable[int]]
"""Wraps the indices of a split, given its name, in a progress bar."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Contents of one split."""

    name: str
    split: str
    images: int
    """Number of images that could be read, with their labels."""
    sizes: tuple[tuple[int, int], ...]
    """Distinct (H, W) of the images, sorted."""
    shares: dict[str, float]
    """Share of each class among all pixels, in [0, 1]."""
    void_share: float
    images_with: dict[str, int]
    """Number of images in which each class occurs."""

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
    """Contents and problems of all checked splits."""

    data: str
    splits: tuple[SplitReport, ...]
    problems: tuple[str, ...]
    """One sentence each, with file names; empty if there are none."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "data": self.data,
            "splits": [split.to_dict() for split in self.splits],
            "problems": list(self.problems),
        }


def check_data(
    text: str, splits: Sequence[str], track: _Track = lambda indices, _: indices, *, channels: int = 3
) -> DataReport:
    """Read every image of ``splits`` and report problems.

    Problems are: files without a partner, unreadable files, masks of another size than their image, undeclared numbers
    and colours, images without a labelled pixel, classes that occur in no image of a split, and images that are in two
    splits.

    Args:
        text: see ``open_dataset``.
        splits: names of the splits. A split that cannot be opened is reported as a problem if another one can.
        track: wraps the indices of a split, given its name, in a progress bar.
        channels: of the images; see ``open_dataset``.

    Raises:
        OptionError: ``text`` is malformed, or its kind does not support ``channels``.
        DatasetError: no split can be opened.
    """
    problems: list[str] = []
    opened: list[tuple[str, Dataset]] = []
    errors: list[DatasetError] = []
    for split in splits:
        try:
            opened.append((split, open_dataset(text, split, strict=False, channels=channels)))
        except DatasetError as error:
            errors.append(error)
    if not opened:
        raise errors[0]
    problems += [str(error) for error in errors]
    for _, dataset in opened:
        problems += dataset.problems
    seen: dict[bytes, tuple[str, str]] = {}
    reports = [_check_split(split, dataset, seen, problems, track) for split, dataset in opened]
    for _, dataset in opened:
        problems += dataset.notes.lines
    return DataReport(text, tuple(reports), tuple(dict.fromkeys(problems)))


def _check_split(
    split: str, dataset: Dataset, seen: dict[bytes, tuple[str, str]], problems: list[str], track: _Track
) -> SplitReport:
    """Read one split. Adds to ``problems``, and adds the split and title of each image to ``seen``, by content hash."""
    pixels: NDArray[np.int64] = np.zeros(VOID + 1, np.int64)
    images_with: NDArray[np.int64] = np.zeros(VOID + 1, np.int64)
    sizes: set[tuple[int, int]] = set()
    images_read = 0
    with closing(DatasetReader().load_or_error(dataset, track(range(len(dataset)), split))) as outcomes:
        for index, outcome in outcomes:
            if isinstance(outcome, DatasetError):
                problems.append(str(outcome))
                continue
            _, image, labels = outcome
            images_read += 1
            sizes.add((labels.shape[0], labels.shape[1]))
            counts = np.bincount(labels.ravel(), minlength=VOID + 1)
            pixels += counts
            images_with += counts > 0
            if counts[VOID] == labels.size:
                problems.append(f"{dataset.title(index)} is of no use: every pixel of its mask is void")
            content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
            other, title = seen.setdefault(content, (split, dataset.title(index)))
            if other != split:
                problems.append(f"{dataset.title(index)} in {split} is the same image as {title} in {other}")
    absent = absent_classes(pixels, dataset.classes, split)
    if absent and images_read:
        problems.append(absent)
    total = max(1, int(pixels.sum()))
    return SplitReport(
        dataset.name,
        split,
        images_read,
        tuple(sorted(sizes)),
        {name: int(pixels[class_id]) / total for class_id, name in enumerate(dataset.classes)},
        int(pixels[VOID]) / total,
        {name: int(images_with[class_id]) for class_id, name in enumerate(dataset.classes)},
    )
