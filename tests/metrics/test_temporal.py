from __future__ import annotations

import numpy as np
import pytest

from rtseg.metrics.temporal import Flicker, MotionFlicker
from rtseg.model_file.spec import VOID


def row(*ids: int) -> np.ndarray:
    return np.array([ids], np.uint8)


def test_only_pixels_whose_truth_stays_the_same_and_is_known_are_counted() -> None:
    flicker = Flicker()
    flicker.add(row(0, 0, 1, 1, 2, 2), row(0, 0, 1, VOID, 1, 2), is_next_frame=False)
    flicker.add(row(0, 1, 1, 0, 0, 0), row(0, 0, 1, 1, VOID, 1), is_next_frame=True)
    assert flicker.share() == pytest.approx(1 / 3)


def test_all_frames_count_alike_over_the_whole_video() -> None:
    flicker = Flicker()
    truth = row(0, 0, 0, 0)
    for labels in (row(0, 0, 0, 0), row(1, 1, 0, 0), row(1, 1, 1, 0), row(1, 1, 1, 0)):
        flicker.add(labels, truth, is_next_frame=True)
    assert flicker.share() == pytest.approx((2 + 1 + 0) / 12)


def test_wrong_labels_that_stay_do_not_flicker() -> None:
    flicker = Flicker()
    for _ in range(2):
        flicker.add(row(1, 1), row(0, 0), is_next_frame=True)
    assert flicker.share() == 0.0


def test_an_image_that_does_not_follow_is_compared_with_the_next_alone() -> None:
    flicker = Flicker()
    flicker.add(row(0, 0), row(0, 0), is_next_frame=False)
    flicker.add(row(1, 1), row(0, 0), is_next_frame=False)
    flicker.add(row(1, 0), row(0, 0), is_next_frame=True)
    assert flicker.share() == 0.5


def test_a_frame_of_another_size_is_not_compared() -> None:
    flicker = Flicker()
    flicker.add(row(0, 0), row(0, 0), is_next_frame=False)
    flicker.add(row(1, 1, 1), row(0, 0, 0), is_next_frame=True)
    assert flicker.share() is None


def test_without_two_frames_of_a_video_there_is_none() -> None:
    flicker = Flicker()
    assert flicker.share() is None
    flicker.add(row(0), row(0), is_next_frame=True)
    flicker.add(row(1), row(0), is_next_frame=False)
    assert flicker.share() is None


def test_frames_without_any_known_pixel_are_no_flicker_of_zero() -> None:
    flicker = Flicker()
    for _ in range(2):
        flicker.add(row(0), row(VOID), is_next_frame=True)
    assert flicker.share() is None


def test_flicker_along_the_motion_compares_trusted_pixels_with_the_carried_labels() -> None:
    flicker = MotionFlicker()
    assert flicker.share() is None
    flicker.add(row(0, 1, 2, 3), row(0, 1, 1, 1), np.array([[True, True, True, False]]))
    flicker.add(row(5, 5, 5, 5), row(5, 5, 5, 5), np.ones((1, 4), bool))
    assert flicker.share() == pytest.approx(1 / 7)
