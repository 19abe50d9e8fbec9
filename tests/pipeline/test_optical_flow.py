from __future__ import annotations

import numpy as np
import pytest
from helpers.moving_images import SIZE, moving, texture

from rtseg.frame import Image
from rtseg.pipeline.optical_flow import MotionEstimator, MotionPath
from rtseg.system.opencv import cv2

FRAME_S = 1 / 30


def follow(images: list[Image]) -> MotionPath:
    estimate = MotionEstimator()
    path: MotionPath | None = None
    for number, image in enumerate(images):
        step = estimate(image, number * FRAME_S)
        if path is None:
            path = MotionPath(step.grey, step.grey)
        else:
            assert not step.reason
            path = path.extend(step)
    assert path is not None
    return path


def columns(width: int) -> Image:
    """Labels with a border every 32 pixels."""
    return np.broadcast_to(np.arange(width, dtype=np.uint8) // 32, (SIZE[0], width))


class TestCarry:
    @pytest.mark.parametrize("steps", [1, 4, 10])
    def test_labels_move_with_the_image_over_any_number_of_steps(self, steps: int) -> None:
        wide = columns(SIZE[1] + 2 * steps)
        carried = follow(moving(steps + 1, (0, 2))).carry(wide[:, : SIZE[1]].copy())
        expected = wide[:, 2 * steps :]
        inner = np.s_[8:-8, 8 : -8 - 2 * steps]  # what came into view has no label of its own
        assert np.mean(carried[inner] == expected[inner]) > 0.98
        assert np.mean(wide[:, : SIZE[1]][inner] == expected[inner]) < 1 - 0.05 * steps

    def test_a_still_camera_leaves_labels_as_they_are(self) -> None:
        image = texture(SIZE)
        labels = np.random.default_rng(1).integers(0, 9, SIZE, np.uint8)
        assert np.array_equal(follow([image, image.copy(), image.copy()]).carry(labels), labels)

    def test_labels_may_have_another_size_than_the_images(self) -> None:
        labels = np.repeat(np.repeat(columns(SIZE[1]), 2, axis=0), 3, axis=1)
        carried = follow(moving(3, (0, 4))).carry(labels)
        assert carried.shape == labels.shape
        assert np.mean(carried[16:-16, 30:-60] == labels[16:-16, 30 + 24 : -60 + 24]) > 0.97

    def test_a_path_without_steps_returns_the_labels_themselves(self) -> None:
        labels = np.zeros(SIZE, np.uint8)
        assert follow([texture(SIZE)]).carry(labels) is labels


class TestTrust:
    def test_what_came_into_view_is_not_trusted(self) -> None:
        untrusted = follow(moving(6, (0, 4))).untrusted_at(SIZE)
        assert untrusted[:, -12:].mean() > 0.95
        assert untrusted[:, 20:-40].mean() < 0.02

    def test_a_new_object_is_not_trusted(self) -> None:
        first, second = texture(SIZE), texture(SIZE)
        second[60:120, 100:180] = texture(SIZE, 7)[60:120, 100:180][::-1] // 2
        untrusted = follow([first, second]).untrusted_at(SIZE)
        assert untrusted[66:114, 106:174].mean() > 0.6
        assert untrusted[:50].mean() < 0.05

    def test_a_change_of_the_brightness_of_the_whole_image_is_ignored(self) -> None:
        first = np.clip(texture(SIZE), 40, 200)
        assert follow([first, first + np.uint8(12)]).untrusted_at(SIZE).mean() < 0.02


class TestReasons:
    def reason(self, second: Image, *, pts_s: float = FRAME_S, still: bool = False) -> str:
        estimate = MotionEstimator()
        assert estimate(texture(SIZE), 0.0).reason == "first frame"
        return estimate(second, pts_s, still=still).reason

    def test_the_next_frame_has_none(self) -> None:
        assert self.reason(texture(SIZE)) == ""

    def test_a_cut_and_a_gap_begin_a_new_scene(self) -> None:
        assert self.reason(np.full((*SIZE, 3), (250, 20, 20), np.uint8)) == "scene cut"
        assert self.reason(texture(SIZE), pts_s=5.0) == "scene cut"

    def test_a_still_image_does_not_continue_another(self) -> None:
        assert self.reason(texture(SIZE), still=True) == "still image"

    def test_a_jump_of_the_exposure_is_named(self) -> None:
        assert self.reason(np.asarray(cv2.add(texture(SIZE), (30, 30, 30, 0)), np.uint8)) == "exposure"

    def test_a_large_motion_is_named(self) -> None:
        first, second = (np.repeat(image[..., :1], 3, axis=2) for image in moving(2, (0, 24)))  # no hue: no cut
        estimate = MotionEstimator()
        estimate(first, 0.0)
        assert estimate(second, FRAME_S).reason == "large motion"

    def test_a_frame_of_another_size_starts_anew(self) -> None:
        assert self.reason(texture((100, 320))) == "first frame"


@pytest.mark.parametrize("shape", [(16, 24, 3), (32, 48, 1), (40, 64, 2), (64, 40, 4), (8, 900, 3)])
def test_images_of_any_size_and_channels_have_a_flow(shape: tuple[int, int, int]) -> None:
    estimate = MotionEstimator()
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    estimate(image, 0.0)
    step = estimate(image, FRAME_S)
    assert step.reason == ""
    assert step.flow is not None
    assert np.abs(step.flow).max() < 0.1
