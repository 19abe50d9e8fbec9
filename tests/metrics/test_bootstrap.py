from __future__ import annotations

import numpy as np
import pytest

from rtseg.metrics.bootstrap import BootstrapInterval, sampling_units

WIDE = 50


def interval(correct: list[float]) -> tuple[float, float]:
    """Of images in which this share of the pixels is right; two classes, half of the pixels each."""
    bootstrap = BootstrapInterval(2, len(correct))
    truth = np.zeros((2, 100), np.uint8)
    truth[1] = 1
    for unit, share in enumerate(correct):
        labels = truth.copy()
        labels[:, : round(100 * (1 - share))] ^= 1
        bootstrap.add(labels, truth, unit)
    found = bootstrap.interval()
    assert found is not None
    return found


class TestInterval:
    def test_equal_images_have_an_interval_without_width(self) -> None:
        assert interval([0.9] * 12) == pytest.approx((0.9 / 1.1, 0.9 / 1.1))

    def test_it_contains_the_score_and_is_the_same_every_time(self) -> None:
        shares = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0] * 3
        low, high = interval(shares)
        score = np.mean(shares) / (2 - np.mean(shares))
        assert low < score < high
        assert interval(shares) == (low, high)

    def test_its_width_is_that_of_the_normal_distribution_for_many_images(self) -> None:
        shares = [0.6, 0.8] * WIDE
        low, high = interval(shares)
        # The share of right pixels has the standard error 0.1 / sqrt(100); s / (2 - s) has the slope 2 / (2 - s)^2.
        assert high - low == pytest.approx(2 * 1.96 * 0.01 * 2 / 1.3**2, rel=0.15)

    def test_a_class_that_was_not_drawn_does_not_count(self) -> None:
        bootstrap = BootstrapInterval(3, 2)
        bootstrap.add(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 0)
        bootstrap.add(np.ones((2, 2), np.uint8), np.ones((2, 2), np.uint8), 1)
        assert bootstrap.interval() == (1.0, 1.0)
        assert bootstrap.matrix().tolist() == [[4, 0, 0], [0, 4, 0], [0, 0, 0]]

    def test_only_the_given_classes_count(self) -> None:
        bootstrap = BootstrapInterval(2, 2)
        truth = np.array([[0, 0, 1, 1]], np.uint8)
        for unit in range(2):
            bootstrap.add(np.array([[0, 0, 1, 0]], np.uint8), truth, unit)
        assert bootstrap.interval([1]) == (0.5, 0.5)
        assert bootstrap.interval([0]) == pytest.approx((2 / 3, 2 / 3))

    def test_one_unit_has_none(self) -> None:
        assert BootstrapInterval(2, 1).interval() is None


class TestUnits:
    def test_single_images_are_units(self) -> None:
        assert sampling_units([None, None, None]) == ([0, 1, 2], "3 images")

    def test_many_videos_are_units(self) -> None:
        videos = [f"video {number // 2}" for number in range(24)]
        units, names = sampling_units(videos)
        assert names == "12 videos"
        assert units == [number // 2 for number in range(24)]

    def test_few_videos_are_cut_into_blocks_of_consecutive_frames(self) -> None:
        units, names = sampling_units(["a"] * 30)
        assert names == "10 blocks of a video"
        assert units == [number // 3 for number in range(30)]
        assert sampling_units(["a"] * 15 + ["b"] * 15)[1] == "10 blocks of 2 videos"

    def test_there_are_never_more_units_than_images_or_than_500(self) -> None:
        assert sampling_units(["a"] * 3) == ([0, 1, 2], "3 blocks of a video")
        assert max(sampling_units([None] * 2000)[0]) == 499
