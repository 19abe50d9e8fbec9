from __future__ import annotations

import numpy as np
import pytest

from rtseg.metrics.confusion import ConfusionMatrix, Scores, compute_scores
from rtseg.model_file.spec import VOID

BY_HAND = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
"""Class 0 is predicted as 0 three times and as 1 once; class 1 as 0 twice and as 1 four times; class 2 never occurs."""


class TestScores:
    def test_iou_is_the_shared_part_of_the_pixels_that_either_has(self) -> None:
        result = compute_scores(BY_HAND)
        assert result.iou == (3 / 6, 4 / 7, None)
        assert result.miou == pytest.approx((3 / 6 + 4 / 7) / 2)
        assert result.pixel_accuracy == 7 / 10

    def test_a_class_in_neither_truth_nor_prediction_is_left_out_of_the_mean(self) -> None:
        assert compute_scores(BY_HAND).miou == pytest.approx(compute_scores(BY_HAND[:2, :2]).miou)

    def test_a_class_that_is_only_predicted_or_only_true_has_an_iou_of_zero(self) -> None:
        assert compute_scores(np.array([[5, 1], [0, 0]])).iou == (5 / 6, 0.0)
        assert compute_scores(np.array([[5, 0], [1, 0]])).iou == (5 / 6, 0.0)

    def test_perfect_labels_have_a_score_of_one(self) -> None:
        assert compute_scores(np.diag([5, 0, 7])) == Scores(1.0, (1.0, None, 1.0), 1.0)

    def test_counts_beyond_32_bits_do_not_overflow(self) -> None:
        assert compute_scores(np.full((2, 2), 2**40, np.int64)).miou == pytest.approx(1 / 3)

    @pytest.mark.parametrize("confusion", [np.zeros((2, 3), np.int64), np.zeros(4, np.int64)])
    def test_counts_that_are_not_square_are_refused(self, confusion: np.ndarray) -> None:
        with pytest.raises(ValueError, match="must be square"):
            compute_scores(confusion)

    def test_counts_of_nothing_are_refused(self) -> None:
        with pytest.raises(ValueError, match="counts no pixel"):
            compute_scores(np.zeros((3, 3), np.int64))

    def test_for_json_the_classes_have_their_names(self) -> None:
        assert Scores(0.5, (0.5, None), 0.75).to_dict(("Road", "Car")) == {
            "miou": 0.5,
            "pixel_accuracy": 0.75,
            "iou": {"Road": 0.5, "Car": None},
        }


class TestConfusion:
    def test_rows_are_truth_and_columns_are_prediction(self) -> None:
        confusion = ConfusionMatrix(3)
        truth = np.array([[0, 0, 0, 0, 1], [1, 1, 1, 1, 1]], np.uint8)
        predicted = np.array([[0, 0, 0, 1, 0], [0, 1, 1, 1, 1]], np.uint8)
        confusion.add(predicted, truth)
        np.testing.assert_array_equal(confusion.matrix(), BY_HAND)

    def test_images_add_up(self) -> None:
        confusion = ConfusionMatrix(2)
        for _ in range(3):
            confusion.add(np.array([[0, 1]], np.uint8), np.array([[1, 1]], np.uint8))
        np.testing.assert_array_equal(confusion.matrix(), [[0, 0], [3, 3]])

    def test_void_in_the_truth_is_left_out_whatever_is_predicted_there(self) -> None:
        confusion = ConfusionMatrix(2)
        confusion.add(np.array([[0, 1, 1]], np.uint8), np.array([[VOID, VOID, 1]], np.uint8))
        np.testing.assert_array_equal(confusion.matrix(), [[0, 0], [0, 1]])

    def test_images_may_differ_in_size_and_lie_anyhow_in_memory(self) -> None:
        confusion = ConfusionMatrix(2)
        labels = np.zeros((4, 6), np.uint8)
        labels[:, 3:] = 1
        confusion.add(labels.T, labels.T)
        confusion.add(labels[:, ::2], labels[:, ::2])
        np.testing.assert_array_equal(confusion.matrix(), [[20, 0], [0, 16]])

    @pytest.mark.parametrize(("predicted", "truth"), [(2, 0), (VOID, 0), (0, 2)])
    def test_an_id_that_no_class_has_is_refused_and_not_counted_as_another(self, predicted: int, truth: int) -> None:
        confusion = ConfusionMatrix(2)
        with pytest.raises(ValueError, match="there are 2 classes"):
            confusion.add(np.full((1, 2), predicted, np.uint8), np.full((1, 2), truth, np.uint8))
        assert not confusion.matrix().any()

    def test_labels_of_another_shape_than_the_truth_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"labels \(2, 3\) and truth \(3, 2\)"):
            ConfusionMatrix(2).add(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


def test_the_figures_are_those_of_the_sets_of_pixels() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 7, (4, 20, 30), dtype=np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 6, truth.shape)).astype(np.uint8)
    predicted[predicted == 6] = 0
    truth[truth == 6] = VOID
    confusion = ConfusionMatrix(6)
    for labels, wanted in zip(predicted, truth, strict=True):
        confusion.add(labels, wanted)
    result = compute_scores(confusion.matrix())
    known = truth != VOID
    for index, iou in enumerate(result.iou):
        found, wanted = (predicted == index) & known, truth == index
        assert iou == pytest.approx((found & wanted).sum() / (found | wanted).sum())
    assert result.miou == pytest.approx(np.mean(result.iou))
    assert result.pixel_accuracy == pytest.approx((predicted == truth)[known].mean())
