"""Judging labels against truth, whoever made the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rtseg.datasets import Dataset
from rtseg.errors import DatasetError
from rtseg.frame import Labels, Picture
from rtseg.preprocess import resize_labels
from rtseg.training.metrics import Confusion, Scores, scores

__all__ = ["evaluate"]


def evaluate(label: Callable[[Picture], Labels], dataset: Dataset, places: Iterable[int] | None = None) -> Scores:
    """Scores over a data set, every picture judged at the size of its truth.

    Args:
        label: class ids, uint8 (h, w), of a BGR picture, uint8 (H, W, 3). Labels of another size than the truth are
            brought to it by nearest neighbour, as they are when painted over a frame.
        dataset: the pictures and their truth.
        places: which pictures; all unless given (a progress bar wraps them).

    Raises:
        DatasetError: a file of the data set cannot be used, or no pixel of it is labelled.
    """
    confusion = Confusion(len(dataset.classes))
    for place in range(len(dataset)) if places is None else places:
        picture, truth = dataset.load(place)
        height, width = truth.shape
        confusion.add(resize_labels(label(picture), (height, width)), truth)
    matrix = confusion.matrix()
    if not matrix.any():
        raise DatasetError(f"no pixel of {dataset.name} is labelled: every label is void")
    return scores(matrix)
