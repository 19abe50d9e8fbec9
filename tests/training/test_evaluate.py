from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.datasets import Dataset
from rtseg.errors import DatasetError
from rtseg.spec import VOID
from rtseg.training.evaluate import evaluate


class Squares(Dataset):
    """Pictures whose blue is their truth, each of another size; the last column is void."""

    name = "squares"
    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    licence = "none"

    def __init__(self, *, labelled: bool = True) -> None:
        self.labelled = labelled
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return 3

    def load(self, index: int, epoch: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        self.loaded.append(index)
        labels = np.full((8 + 4 * index, 12), index, np.uint8)
        picture = labels[..., None].repeat(3, 2)
        labels[:, -4:] = VOID
        return picture, labels if self.labelled else np.full_like(labels, VOID)


def blue(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture[..., 0]


def test_labels_that_are_the_truth_score_one() -> None:
    result = evaluate(blue, Squares())
    assert (result.miou, result.iou, result.pixel_accuracy) == (1.0, (1.0, 1.0, 1.0), 1.0)


def test_labels_of_the_models_size_are_judged_at_the_size_of_the_truth() -> None:
    result = evaluate(lambda picture: blue(picture)[::4, ::4], Squares())
    assert result.pixel_accuracy == 1.0


def test_wrong_labels_are_counted_by_pixels() -> None:
    # Of 8x8, 12x8 and 16x8 labelled pixels, those of the first two pictures are right.
    result = evaluate(lambda picture: np.minimum(blue(picture), 1), Squares())
    assert result.pixel_accuracy == pytest.approx((64 + 96) / (64 + 96 + 128))
    assert result.iou == pytest.approx((1.0, 96 / (96 + 128), 0.0))


def test_only_the_places_that_were_asked_for_are_judged_and_in_their_order() -> None:
    dataset = Squares()
    result = evaluate(blue, dataset, [2, 0])
    assert dataset.loaded == [2, 0]
    assert result.iou == (1.0, None, 1.0)


@pytest.mark.parametrize(("labelled", "places"), [(False, None), (True, [])], ids=["all void", "no picture"])
def test_data_without_a_labelled_pixel_are_refused(labelled: bool, places: list[int] | None) -> None:
    with pytest.raises(DatasetError, match="no pixel of squares is labelled"):
        evaluate(blue, Squares(labelled=labelled), places)


def test_a_labeller_that_knows_more_classes_than_the_data_is_an_error_and_no_score() -> None:
    with pytest.raises(ValueError, match="there are 3 classes"):
        evaluate(lambda picture: blue(picture) + 2, Squares())
