from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.evaluate import evaluate, predict_all
from rtseg.errors import DatasetError
from rtseg.model_file.spec import VOID


class Squares(Dataset):
    """Images whose blue is their truth, each of another size; the last column is void."""

    name = "squares"
    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    licence = "none"

    def __init__(self, *, labelled: bool = True) -> None:
        self.labelled = labelled
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return 3

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Bytes, Bytes]:
        self.loaded.append(index)
        labels = np.full((8 + 4 * index, 12), index, np.uint8)
        image = labels[..., None].repeat(3, 2)
        labels[:, -4:] = VOID
        return image, labels if self.labelled else np.full_like(labels, VOID)


Bytes = NDArray[np.uint8]


def blue(image: Bytes) -> Bytes:
    return image[..., 0]


def test_correct_labels_score_one() -> None:
    result = evaluate(blue, Squares())
    assert (result.miou, result.iou, result.pixel_accuracy) == (1.0, (1.0, 1.0, 1.0), 1.0)


def test_labels_of_the_models_size_are_compared_at_the_size_of_the_ground_truth() -> None:
    result = evaluate(lambda image: blue(image)[::4, ::4], Squares())
    assert result.pixel_accuracy == 1.0


def test_wrong_labels_are_counted_by_pixels() -> None:
    # Of 8x8, 12x8 and 16x8 labelled pixels, those of the first two images are right.
    result = evaluate(lambda image: np.minimum(blue(image), 1), Squares())
    assert result.pixel_accuracy == pytest.approx((64 + 96) / (64 + 96 + 128))
    assert result.iou == pytest.approx((1.0, 96 / (96 + 128), 0.0))


def test_only_the_requested_images_are_evaluated_in_order() -> None:
    dataset = Squares()
    result = evaluate(blue, dataset, [2, 0])
    assert dataset.loaded == [2, 0]
    assert result.iou == (1.0, None, 1.0)


@pytest.mark.parametrize(("labelled", "indices"), [(False, None), (True, [])], ids=["all void", "no image"])
def test_data_without_a_labelled_pixel_are_refused(labelled: bool, indices: list[int] | None) -> None:
    with pytest.raises(DatasetError, match="no pixel of squares is labelled"):
        evaluate(blue, Squares(labelled=labelled), indices)


def test_a_label_of_an_unknown_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="there are 3 classes"):
        evaluate(lambda image: blue(image) + 2, Squares())


class Videos(Squares):
    """The same with names of videos."""

    def __init__(self, *videos: str | None) -> None:
        super().__init__()
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Bytes, Bytes]:
        return super().load(index % 3)

    def sequence(self, index: int) -> str | None:
        return self.videos[index]


class TestVideos:
    @pytest.mark.parametrize(
        ("videos", "indices", "follows"),
        [
            (("a", "a", "a"), None, [False, True, True]),
            (("a", "a", "b", "b", "a"), None, [False, True, False, True, False]),
            ((None, None), None, [False, False]),
            (("a", None, "a"), None, [False, False, False]),
            (("a", "a", "a", "a"), [0, 2, 3, 1], [False, False, True, False]),
            (("a", "a"), [1, 1, 0], [False, False, False]),
        ],
    )
    def test_an_image_follows_the_one_right_before_it_in_its_video(
        self, videos: tuple[str | None, ...], indices: list[int] | None, follows: list[bool]
    ) -> None:
        assert [prediction.is_next_frame for prediction in predict_all(blue, Videos(*videos), indices)] == follows

    def test_a_recurrent_model_is_reset_before_every_image_that_is_not_the_next_frame(self) -> None:
        said: list[str] = []

        def label(image: Bytes) -> Bytes:
            said.append("label")
            return blue(image)

        evaluate(label, Videos("a", "a", "b", None), reset=lambda: said.append("reset"))
        assert said == ["reset", "label", "label", "reset", "label", "reset", "label"]

    def test_labels_have_the_size_of_the_ground_truth(self) -> None:
        (prediction,) = predict_all(lambda image: blue(image)[::4, ::4], Squares(), [2])
        assert prediction.labels.shape == prediction.truth.shape == (16, 12)
        assert (prediction.labels == 2).all()
        assert (prediction.truth[:, -4:] == VOID).all()
