"""Split a data set into training and validation images by video, by folder, or into N folds.

Neighbouring frames of a video look alike, so that a network that was trained on one of them is not really tested on the
other. A video, or a folder, is therefore either used for training or for validation.
"""

from __future__ import annotations

import hashlib

from rtseg.datasets import Dataset
from rtseg.datasets.subset import Subset
from rtseg.errors import DatasetError, OptionError
from rtseg.image_io.find import natural_order

__all__ = ["split_folds"]


def split_folds(dataset: Dataset, split_by: str, fold: str) -> tuple[Subset, Subset]:
    """Return the training and the validation images of ``dataset``.

    Args:
        dataset: what to split.
        split_by: ``video``: one video is for validation. ``folder``: one folder of images is. ``N-fold``: a part of
            1 / N is: whole videos if there are at least N, else consecutive images of videos; single images are
            divided by the hash of their name.
        fold: the name of the video or folder for validation, or its number from 0, or the number of the part.

    Raises:
        OptionError: there is no such ``fold``.
        DatasetError: there are fewer than two groups.
    """
    is_named = split_by in ("video", "folder")
    groups = _groups(dataset, split_by) if is_named else _parts(dataset, int(split_by.removesuffix("-fold")))
    if len(groups) < 2:
        raise DatasetError(f"{dataset.name} has one {split_by} only: --split-by needs at least two")
    names = list(groups)
    if fold not in groups and not (fold.isdecimal() and int(fold) < len(names)):
        raise OptionError(f"--fold must be 0 to {len(names) - 1} or one of {', '.join(names)}, got {fold!r}")
    name = fold if fold in groups else names[int(fold)]
    held_out = set(groups[name])
    others = [index for index in range(len(dataset)) if index not in held_out]
    return _named(dataset, others, f"without {name}"), _named(dataset, groups[name], name)


def _named(dataset: Dataset, indices: list[int], note: str) -> Subset:
    return Subset(dataset, indices, f"{dataset.name}: {note} ({len(indices)} images)")


def _groups(dataset: Dataset, split_by: str) -> dict[str, list[int]]:
    """Return the indices of each video or folder, in the natural order of their names."""
    groups: dict[str, list[int]] = {}
    for index in range(len(dataset)):
        files = dataset.files(index)
        name = dataset.sequence(index) if split_by == "video" else files[0].parent.name if files else None
        if name is None:
            raise DatasetError(f"{dataset.name} has no {split_by}s: give --split-by {_other(split_by)} or 5-fold")
        groups.setdefault(name, []).append(index)
    return dict(sorted(groups.items(), key=lambda item: natural_order(item[0])))


def _other(split_by: str) -> str:
    return "folder" if split_by == "video" else "video"


def _parts(dataset: Dataset, count: int) -> dict[str, list[int]]:
    """Return the indices of ``count`` parts of about equal size."""
    if len(dataset) < count:
        raise DatasetError(f"{dataset.name} has fewer images than --split-by {count}-fold")
    parts: list[list[int]] = [[] for _ in range(count)]
    videos = None if dataset.sequence(0) is None else _groups(dataset, "video")
    if videos is not None and len(videos) >= count:
        for indices in sorted(videos.values(), key=len, reverse=True):
            min(parts, key=len).extend(indices)
    elif videos is not None:
        for index in range(len(dataset)):
            parts[index * count // len(dataset)].append(index)
    else:
        for rank, index in enumerate(sorted(range(len(dataset)), key=lambda index: _rank(dataset, index))):
            parts[rank % count].append(index)
    return {f"part {number}": sorted(part) for number, part in enumerate(parts)}


def _rank(dataset: Dataset, index: int) -> bytes:
    """Return a key for a random order that is the same on every machine."""
    files = dataset.files(index)
    key = files[0].stem if files else str(index)
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
