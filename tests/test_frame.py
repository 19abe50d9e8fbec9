from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from rtseg.frame import Frame

IMAGE = np.zeros((4, 6, 3), np.uint8)


def test_a_frame_holds_its_image_and_its_times() -> None:
    frame = Frame(IMAGE, 3, 0.12, 99.5, "a.png")
    assert frame.image is IMAGE
    assert (frame.index, frame.pts_s, frame.captured_s, frame.name) == (3, 0.12, 99.5, "a.png")


def test_the_frame_of_a_video_has_no_name() -> None:
    assert Frame(IMAGE, 0, 0.0, 0.0).name is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 6), np.uint8), r"uint8 \(4, 6\)"),
        (np.zeros((4, 6, 5), np.uint8), r"uint8 \(4, 6, 5\)"),
        (np.zeros((1, 4, 6, 3), np.uint8), r"uint8 \(1, 4, 6, 3\)"),
        (np.zeros((4, 6, 3), np.float32), r"float32 \(4, 6, 3\)"),
    ],
)
def test_another_kind_of_image_is_refused_with_its_dtype_and_shape(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frame(image, 0, 0.0, 0.0)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_an_image_may_be_grey_or_have_an_extra_channel(channels: int) -> None:
    assert Frame(np.zeros((4, 6, channels), np.uint8), 0, 0.0, 0.0).image.shape == (4, 6, channels)


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Frame(IMAGE, -1, 0.0, 0.0)


def test_a_frame_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Frame(IMAGE, 0, 0.0, 0.0).index = 1  # type: ignore[misc]


def test_two_frames_are_equal_only_if_they_are_the_same_one() -> None:
    assert Frame(IMAGE, 0, 0.0, 0.0) != Frame(IMAGE, 0, 0.0, 0.0)
