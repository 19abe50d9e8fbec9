"""Judging labels against truth, whoever made the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from rtseg.datasets import Dataset
from rtseg.datasets.loader import Reader, load_ahead
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.metrics.confusion import Confusion, Scores, scores
from rtseg.preprocess import resize_labels

__all__ = ["Judged", "evaluate", "follows", "judge", "total"]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Labels of one image beside their truth."""

    labels: Labels
    """What was predicted: class ids, uint8 (H, W), at the size of the truth."""
    truth: Labels
    """Class ids, uint8 (H, W), 255 where void."""
    follows: bool
    """Whether the image is the next frame of the video that the one judged before it is of."""


def judge(
    label: Callable[[Image], Labels],
    dataset: Dataset,
    places: Iterable[int] | None = None,
    reset: Callable[[], None] | None = None,
    reader: Reader | None = None,
) -> Iterator[Judged]:
    """Label the images of a data set, one after the other, for whatever is to be measured.

    Args:
        label: class ids, uint8 (h, w), of a BGR image, uint8 (H, W, 3): a new array at every call. Labels of another
            size than the truth are brought to it by nearest neighbour, as they are when painted over a frame.
        dataset: the images and their truth.
        places: which images; all unless given (a progress bar wraps them).
        reset: called before every image that is not the next frame of a video, for labels that hang on the frames
            before.
        reader: how files are read; as usual unless given.

    Raises:
        DatasetError: a file of the data set cannot be used.
    """
    before: int | None = None
    with closing(load_ahead(dataset, range(len(dataset)) if places is None else places, reader=reader)) as loaded:
        for place, image, truth in loaded:
            is_next = follows(dataset, before, place)
            if reset is not None and not is_next:
                reset()
            height, width = truth.shape
            yield Judged(resize_labels(label(image), (height, width)), truth, is_next)
            before = place


def follows(dataset: Dataset, before: int | None, place: int) -> bool:
    """Whether the images at ``before`` and ``place`` are two frames of a video, one after the other.

    Args:
        dataset: the images.
        before: the place that was judged before; None where nothing was.
        place: the one to be judged.
    """
    video = dataset.sequence(place)
    return before is not None and before == place - 1 and video is not None and dataset.sequence(before) == video


def evaluate(
    label: Callable[[Image], Labels],
    dataset: Dataset,
    places: Iterable[int] | None = None,
    reset: Callable[[], None] | None = None,
    reader: Reader | None = None,
) -> Scores:
    """Scores over a data set, every image judged at the size of its truth; arguments and errors as of ``judge``.

    Raises:
        DatasetError: no pixel of the data set is labelled.
    """
    confusion = Confusion(len(dataset.classes))
    for judged in judge(label, dataset, places, reset, reader):
        confusion.add(judged.labels, judged.truth)
    return total(confusion, dataset)


def total(confusion: Confusion, dataset: Dataset) -> Scores:
    """Scores of all that was counted on ``dataset``.

    Raises:
        DatasetError: nothing was counted, every label is void.
    """
    matrix = confusion.matrix()
    if not matrix.any():
        raise DatasetError(f"no pixel of {dataset.name} is labelled: every label is void")
    return scores(matrix)
