from __future__ import annotations

from itertools import product
from math import hypot

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.metrics.boundary import TOLERANCE, BoundaryFScore, contours, fill_void_lines
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

Ids = NDArray[np.uint8]


def points_of(labels: Ids, known: NDArray[np.bool_], index: int) -> list[tuple[int, int]]:
    """The contour of a class, from its definition: a neighbour that is known has another class."""
    height, width = labels.shape
    found = []
    for y, x in product(range(height), range(width)):
        if not known[y, x] or labels[y, x] != index:
            continue
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width and known[v, u]]
        if any(labels[place] != index for place in inside):
            found.append((y, x))
    return found


def f_of(predicted: Ids, truth: Ids, index: int) -> float | None:
    """F of one class in one image, every pixel of a contour compared with every one of the other."""
    known = truth != VOID
    found, wanted = points_of(predicted, known, index), points_of(truth, known, index)
    if not found and not wanted:
        return None
    tolerance = 0.0075 * hypot(*truth.shape)

    def near(points: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        if not points or not others:
            return 0.0
        apart = np.array(points)[:, None] - np.array(others)[None]
        return float((np.hypot(apart[..., 0], apart[..., 1]) < tolerance).any(1).mean())

    precision, recall = near(found, wanted), near(wanted, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(rng: np.random.Generator, size: tuple[int, int], classes: int) -> Ids:
    """Areas of some classes with smooth outlines."""
    noise = [cv2.GaussianBlur(rng.random(size).astype(np.float32), (0, 0), 7.0) for _ in range(classes)]
    return np.argmax(np.stack(noise), 0).astype(np.uint8)


def halves(at: int, size: tuple[int, int] = (300, 400)) -> Ids:
    """Class 0 left of a column, class 1 from there on."""
    labels = np.zeros(size, np.uint8)
    labels[:, at:] = 1
    return labels


def score(predicted: Ids, truth: Ids, classes: int = 2) -> tuple[float | None, ...]:
    boundary = BoundaryFScore(classes)
    boundary.add(predicted, truth)
    return boundary.scores().per_class


class TestTheFigures:
    @pytest.mark.parametrize("seed", range(2))
    def test_they_are_those_of_comparing_every_pixel_with_every_other(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        boundary, wanted = BoundaryFScore(4), [[], [], [], []]
        for _ in range(3):
            truth = blobs(rng, (60, 300), 3)
            predicted = np.roll(truth, 2, 1)
            predicted[20:40] = blobs(rng, (20, 300), 4)
            truth[cv2.blur(rng.random(truth.shape), (9, 9)) < 0.42] = VOID
            boundary.add(predicted, truth)
            for index, values in enumerate(wanted):
                value = f_of(predicted, truth, index)
                if value is not None:
                    values.append(value)
        means = [float(np.mean(values)) for values in wanted]
        assert all(0 <= mean < 1 for mean in means)
        assert min(means[:3]) > 0.1
        result = boundary.scores()
        assert result.per_class == pytest.approx(tuple(means))
        assert result.mean == pytest.approx(np.mean(means))

    def test_contours_may_lie_apart_by_less_than_the_tolerance(self) -> None:
        assert 500 * TOLERANCE == 3.75
        assert score(halves(200), halves(200)) == (1.0, 1.0)
        assert score(halves(203), halves(200)) == (1.0, 1.0)
        assert score(halves(204), halves(200)) == (0.0, 0.0)

    def test_a_contour_at_the_tolerance_itself_is_too_far_away(self) -> None:
        size = (480, 640)
        assert hypot(*size) * TOLERANCE == 6
        assert score(halves(305, size), halves(300, size)) == (1.0, 1.0)
        assert score(halves(306, size), halves(300, size)) == (0.0, 0.0)

    def test_the_mean_over_images_is_taken_of_those_in_which_the_class_has_a_contour(self) -> None:
        boundary = BoundaryFScore(3)
        boundary.add(halves(200), halves(200))
        boundary.add(halves(100), halves(200))
        boundary.add(np.zeros((300, 400), np.uint8), np.zeros((300, 400), np.uint8))
        other = np.where(halves(150) == 1, np.uint8(2), np.uint8(1))
        boundary.add(other, other)
        result = boundary.scores()
        assert result.per_class == pytest.approx((1 / 2, 2 / 3, 1.0))
        assert result.mean == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)

    def test_a_class_that_only_one_of_the_two_has_scores_zero(self) -> None:
        plain = np.zeros((300, 400), np.uint8)
        assert score(halves(200), plain) == (0.0, 0.0)
        assert score(plain, halves(200)) == (0.0, 0.0)

    def test_where_nothing_has_a_contour_there_is_no_score(self) -> None:
        plain = np.zeros((30, 40), np.uint8)
        boundary = BoundaryFScore(2)
        assert boundary.scores().mean is None
        boundary.add(plain, plain)
        assert (boundary.scores().mean, boundary.scores().per_class) == (None, (None, None))

    def test_labels_of_another_shape_than_the_truth_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"labels \(2, 3\) and truth \(3, 2\)"):
            BoundaryFScore(2).add(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


class TestVoid:
    def test_it_makes_no_contour_in_the_truth_and_hides_those_of_the_prediction(self) -> None:
        truth = halves(200)
        truth[:, 190:210] = VOID
        assert score(halves(200), truth) == (None, None)
        assert score(halves(191), truth) == (None, None)

    def test_a_wrong_contour_beside_it_still_counts(self) -> None:
        truth = halves(200)
        truth[:, 190:210] = VOID
        assert score(halves(100), truth) == (0.0, 0.0)

    def test_what_is_predicted_in_it_changes_nothing(self) -> None:
        rng = np.random.default_rng(0)
        truth, predicted = blobs(rng, (120, 160), 4), blobs(rng, (120, 160), 4)
        truth[30:70, 40:90] = VOID
        noisy = predicted.copy()
        noisy[30:70, 40:90] = rng.integers(0, 4, (40, 50))
        wanted = score(predicted, truth, 4)
        assert score(noisy, truth, 4) == wanted
        assert max(value or 0 for value in wanted) > 0


class TestContours:
    def test_both_sides_of_a_border_are_contours_of_their_classes_and_the_edge_of_the_image_is_none(self) -> None:
        found = contours(halves(3, (2, 6)))
        assert found.tolist() == [[VOID, VOID, 0, 1, VOID, VOID]] * 2

    def test_neighbours_across_a_corner_make_none(self) -> None:
        labels = np.zeros((3, 3), np.uint8)
        labels[0, 0] = 5
        assert contours(labels).tolist() == [[5, 0, VOID], [0, VOID, VOID], [VOID] * 3]

    def test_void_is_no_other_class(self) -> None:
        labels = np.array([[0, 0, VOID, 254, 254, 3]], np.uint8)
        assert contours(labels).tolist() == [[VOID, VOID, VOID, VOID, 254, 3]]


class TestVoidLines:
    def ringed(self, at: int, width: int) -> Ids:
        """Two classes with a void line of ``width`` pixels around column ``at``."""
        truth = halves(at)
        truth[:, at - width // 2 : at - width // 2 + width] = VOID
        return truth

    @pytest.mark.parametrize("at", [198, 200, 203])
    def test_the_measure_is_taken_across_a_line_that_hides_every_contour(self, at: int) -> None:
        assert score(halves(at), self.ringed(200, 5)) == (1.0, 1.0)

    def test_a_contour_far_from_the_line_is_still_wrong(self) -> None:
        assert score(halves(206), self.ringed(200, 5)) == (0.0, 0.0)

    def test_a_line_wider_than_twice_the_tolerance_hides_the_contour(self) -> None:
        assert score(halves(200), self.ringed(200, 8)) == (None, None)
        assert score(halves(200), self.ringed(200, 6)) == (1.0, 1.0)

    def test_lines_stay_void_where_most_contours_are_visible(self) -> None:
        truth = self.ringed(200, 5)
        truth[100:] = halves(200)[100:]
        predicted = halves(200)
        predicted[:100] = 0  # wrong only under the line and right of it
        filled = fill_void_lines(truth, 3.75)
        assert score(predicted, truth) != score(predicted, filled)

    def test_the_nearest_class_fills_a_line_and_leaves_wide_areas_void(self) -> None:
        truth = self.ringed(200, 5)
        truth[150:250, 100:160] = VOID
        filled = fill_void_lines(truth, 3.75)
        assert (filled[:100] == halves(200)[:100]).mean() > 0.997  # the middle column is as near to both
        assert (filled[154:246, 104:156] == VOID).all()
        nothing = np.full((4, 5), VOID, np.uint8)
        assert (fill_void_lines(nothing, 3.0) == VOID).all()
