from __future__ import annotations

import numpy as np
import pytest

from rtseg.frame import Image
from rtseg.pipeline.scene_cuts import CutDetector
from rtseg.synthetic.street import Street


def flat(blue: int, green: int, red: int, size: tuple[int, int] = (48, 80)) -> Image:
    return np.full((*size, 3), (blue, green, red), np.uint8)


def grey(value: int, size: tuple[int, int] = (48, 80)) -> Image:
    return flat(value, value, value, size)


def cuts(images: list[Image], *, threshold: float = 27.0) -> list[bool]:
    """Which of the images, at 25 per second, begin a scene."""
    detector = CutDetector(threshold)
    return [detector(image, index / 25) for index, image in enumerate(images)]


class TestContent:
    def test_the_first_image_begins_a_scene_and_a_repeated_image_continues_it(self) -> None:
        assert cuts([grey(90)] * 3) == [True, False, False]

    @pytest.mark.parametrize(("threshold", "least"), [(27.0, 81), (10.0, 30), (60.0, 180)])
    def test_a_mean_of_the_three_differences_at_the_threshold_is_a_cut(self, threshold: float, least: int) -> None:
        # Grey has hue and saturation 0, so only the value differs, which is a third of the change.
        assert cuts([grey(10), grey(10 + least - 1)], threshold=threshold)[1] is False
        assert cuts([grey(10), grey(10 + least)], threshold=threshold)[1] is True

    def test_hue_and_saturation_count_as_much_as_brightness(self) -> None:
        green, blue, pale = flat(0, 200, 0), flat(200, 0, 0), flat(118, 200, 118)  # hue 60, 120, 60; saturation 104
        assert cuts([green, blue], threshold=20.0) == [True, True]
        assert cuts([green, blue], threshold=20.1) == [True, False]
        assert cuts([green, pale], threshold=(255 - 105) / 3) == [True, True]
        assert cuts([green, pale], threshold=(255 - 103) / 3) == [True, False]

    def test_two_reds_on_both_sides_of_hue_zero_are_similar(self) -> None:
        assert cuts([flat(0, 6, 200), flat(6, 0, 200)] * 2) == [True, False, False, False]

    def test_a_small_new_object_is_no_cut_and_a_new_image_is_one_cut(self) -> None:
        more = grey(40)
        more[:12, :20] = 255  # a sixteenth of the image
        assert cuts([grey(40), more, grey(240), grey(240)]) == [True, False, True, False]

    def test_driving_is_no_cut_and_another_street_is_one(self) -> None:
        one, other = Street((96, 160), seed=1), Street((96, 160), seed=4)
        frames = [one.render(10 + n / 25)[0] for n in range(12)] + [other.render(10 + n / 25)[0] for n in range(12)]
        assert [index for index, cut in enumerate(cuts(frames)) if cut] == [0, 12]

    def test_noise_of_a_camera_at_night_is_no_cut(self) -> None:
        random = np.random.default_rng(0)
        frames = [random.normal(60, 10, (384, 640, 3)).clip(0, 255).astype(np.uint8) for _ in range(4)]
        assert cuts(frames) == [True, False, False, False]

    @pytest.mark.parametrize("size", [(32, 32), (384, 640), (640, 32), (32, 8192), (720, 960)])
    def test_images_of_any_size_are_compared(self, size: tuple[int, int]) -> None:
        assert cuts([grey(10, size), grey(20, size), grey(250, size)]) == [True, False, True]

    def test_the_image_is_not_modified_and_may_be_modified_afterwards(self) -> None:
        detector, image = CutDetector(), grey(30)
        image.flags.writeable = False
        detector(image, 0.0)
        image.flags.writeable = True
        image[:] = 250
        assert detector(image, 0.04) is True


class TestTime:
    def test_a_gap_of_more_than_a_second_is_a_cut_but_dropped_frames_are_not(self) -> None:
        detector = CutDetector()
        moments_s = [0.0, 0.04, 0.4, 1.4, 2.41, 2.45]
        assert [detector(grey(90), moment_s) for moment_s in moments_s] == [True, False, False, False, True, False]

    def test_the_length_of_the_gap_is_an_option(self) -> None:
        detector = CutDetector(gap_s=5.0)
        assert [detector(grey(90), moment_s) for moment_s in (0.0, 4.9, 10.0)] == [True, False, True]

    def test_a_source_may_start_at_any_time(self) -> None:
        detector = CutDetector()
        assert [detector(grey(90), 3600 + n / 25) for n in range(3)] == [True, False, False]


class TestStills:
    def test_every_image_of_a_folder_begins_a_new_scene(self) -> None:
        detector = CutDetector()
        assert [detector(grey(90), n / 25, still=True) for n in range(3)] == [True, True, True]

    @pytest.mark.parametrize("channels", [2, 4])
    def test_a_still_may_have_any_number_of_channels(self, channels: int) -> None:
        assert CutDetector()(np.zeros((48, 80, channels), np.uint8), 0.0, still=True) is True

    def test_a_frame_after_a_still_begins_a_new_scene(self) -> None:
        detector = CutDetector()
        detector(grey(90), 0.0)
        detector(grey(90), 0.04, still=True)
        assert [detector(grey(90), moment_s) for moment_s in (0.08, 0.12)] == [True, False]
