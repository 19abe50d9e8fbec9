"""Compare predicted labels with the ground truth of a data set, independent of how they were computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.datasets import Dataset
from rtseg.datasets.loader import DatasetReader
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.metrics.confusion import ConfusionMatrix, Scores, compute_scores
from rtseg.preprocess import resize_labels

__all__ = ["Prediction", "are_consecutive", "evaluate", "predict_all", "score_matrix"]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Predicted labels of one image, and its ground truth."""

    labels: Labels
    """Predicted class IDs, uint8 (H, W), at the size of the ground truth."""
    truth: Labels
    """True class IDs, uint8 (H, W), 255 where void."""
    is_next_frame: bool
    """Whether the image is the next frame of the video that the previous image belongs to."""
    index: int
    """Of the image in the data set."""


def predict_all(
    label: Callable[[Image], Labels],
    dataset: Dataset,
    indices: Iterable[int] | None = None,
    reset: Callable[[], None] | None = None,
    reader: DatasetReader | None = None,
) -> Iterator[Prediction]:
    """Label the images of a data set, one after the other.

    Args:
        label: returns the class IDs, uint8 (h, w), of a BGR image, uint8 (H, W, 3), as a new array. Labels of another
            size than the ground truth are resized to it by nearest neighbour, like labels painted over a frame.
        dataset: the images and their ground truth.
        indices: of the images; default: all. A progress bar may wrap them.
        reset: called before every image that is not the next frame of a video, for recurrent models.
        reader: reads the files; default: a reader with default options.

    Raises:
        DatasetError: a file of the data set cannot be used.
    """
    previous: int | None = None
    indices = range(len(dataset)) if indices is None else indices
    with closing((reader or DatasetReader()).load(dataset, indices)) as items:
        for index, image, truth in items:
            is_next_frame = are_consecutive(dataset, previous, index)
            if reset is not None and not is_next_frame:
                reset()
            height, width = truth.shape
            yield Prediction(resize_labels(label(image), (height, width)), truth, is_next_frame, index)
            previous = index


def are_consecutive(dataset: Dataset, previous: int | None, index: int) -> bool:
    """Return whether two images are consecutive frames of a video.

    Args:
        dataset: the images.
        previous: index of the first image; None if there is none.
        index: of the second image.
    """
    video = dataset.sequence(index)
    return previous is not None and previous == index - 1 and video is not None and dataset.sequence(previous) == video


def evaluate(
    label: Callable[[Image], Labels],
    dataset: Dataset,
    indices: Iterable[int] | None = None,
    reset: Callable[[], None] | None = None,
    reader: DatasetReader | None = None,
) -> Scores:
    """Compute the scores over a data set, each image at the size of its ground truth. Arguments: see ``predict_all``.

    Raises:
        DatasetError: see ``predict_all``; or no pixel is labelled.
    """
    confusion = ConfusionMatrix(len(dataset.classes))
    for prediction in predict_all(label, dataset, indices, reset, reader):
        confusion.add(prediction.labels, prediction.truth)
    return score_matrix(confusion.matrix(), dataset)


def score_matrix(matrix: NDArray[np.int64], dataset: Dataset) -> Scores:
    """Compute the scores from the pixels of ``dataset`` counted in a confusion ``matrix``.

    Raises:
        DatasetError: no pixel was counted: every label is void.
    """
    if not matrix.any():
        raise DatasetError(f"no pixel of {dataset.name} is labelled: every label is void")
    return compute_scores(matrix)
