from __future__ import annotations

import itertools
import threading

import cv2
import numpy as np
import pytest

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.errors import OptionError
from rtseg.sources.options import SourceOptions
from rtseg.sources.synthetic import FPS, StreetSource
from rtseg.synthetic.street import Street

SMALL = (120, 160)
SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(len(CLASSES))


def source(where: str = "demo:2@160x120", **options: object) -> StreetSource:
    return StreetSource(where, SourceOptions(**options))  # type: ignore[arg-type]


class TestStreet:
    def test_an_image_is_bgr_and_every_pixel_has_one_of_the_eleven_classes(self) -> None:
        street = Street(SMALL)
        for time_s in (0.0, 3.3, 61.0):
            image, labels = street.render(time_s)
            assert (image.dtype, image.shape) == (np.uint8, (*SMALL, 3))
            assert (labels.dtype, labels.shape) == (np.uint8, SMALL)
            assert labels.max() < len(CLASSES)

    def test_the_same_seed_and_time_give_the_same_bytes_in_any_order_and_from_any_street(self) -> None:
        times = [0.0, 12.48, 300.0, 4.04]
        first, second = Street(SMALL, seed=5), Street(SMALL, seed=5)
        forwards = [first.render(time_s) for time_s in times]
        backwards = [second.render(time_s) for time_s in reversed(times)][::-1]
        for one, other in zip(forwards, backwards, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])

    def test_a_street_can_be_shared_between_threads(self) -> None:
        street, alone = Street(SMALL, seed=2), Street(SMALL, seed=2)
        got: dict[int, np.ndarray] = {}

        def work(worker: int) -> None:
            for second in range(worker, 40, 4):
                got[second] = street.render(second * 2.5)[0]

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for second in range(40):
            np.testing.assert_array_equal(got[second], alone.render(second * 2.5)[0])

    def test_images_do_not_share_memory(self) -> None:
        street = Street(SMALL)
        image, labels = street.render(1.0)
        copies = image.copy(), labels.copy()
        street.render(2.0)
        np.testing.assert_array_equal(image, copies[0])
        np.testing.assert_array_equal(labels, copies[1])

    def test_another_seed_gives_another_street(self) -> None:
        images = [Street(SMALL, seed=seed).render(5.0)[0].astype(int) for seed in range(4)]
        for one, other in itertools.combinations(images, 2):
            assert np.abs(one - other).mean() > 8

    def test_time_moves_the_street(self) -> None:
        street = Street(SMALL)
        assert (street.render(1.0)[1] != street.render(2.0)[1]).mean() > 0.01

    def test_a_minute_of_any_street_shows_most_classes(self) -> None:
        for seed in range(3):
            street = Street((180, 320), seed=seed)
            seen = set(np.unique([street.render(float(second))[1] for second in range(60)]).tolist())
            assert seen >= {SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, CAR, PEDESTRIAN}

    def test_ten_streets_show_fences_and_bicycles_too(self) -> None:
        labels = [Street(SMALL, seed=seed).render(4.0 * part)[1] for seed in range(10) for part in range(8)]
        assert set(np.unique(labels).tolist()) == set(range(len(CLASSES)))

    def test_sky_is_above_and_road_below_as_a_windscreen_shows_it(self) -> None:
        for seed in range(8):
            street = Street(SMALL, seed=seed)
            labels = np.stack([street.render(3.0 * part)[1] for part in range(8)])
            assert not (labels[:, -30:] == SKY).any()
            assert not (labels[:, :20] == ROAD).any()
            assert (labels[:, -10:] == ROAD).mean() > 0.4

    def test_classes_are_mixed_about_as_on_real_streets(self) -> None:
        counts = np.zeros(len(CLASSES))
        for seed, part in itertools.product(range(12), range(4)):
            counts += np.bincount(Street(SMALL, seed=seed).render(9.0 * part)[1].ravel(), minlength=len(CLASSES))
        share = counts / counts.sum()
        for class_id, least, most in (
            (SKY, 0.05, 0.35),
            (BUILDING, 0.12, 0.45),
            (ROAD, 0.2, 0.5),
            (PAVEMENT, 0.01, 0.15),
            (CAR, 0.02, 0.2),
            (PEDESTRIAN, 0.001, 0.03),
        ):
            assert least < share[class_id] < most, CLASSES[class_id]

    @pytest.mark.parametrize("size", [(64, 64), (65, 97), (241, 431), (97, 480), (300, 70)])
    def test_any_size_from_64_pixels_works(self, size: tuple[int, int]) -> None:
        for seed in range(3):
            street = Street(size, seed=seed)
            for time_s in (0.0, 7.77, 100.04):
                image, labels = street.render(time_s)
                assert image.shape == (*size, 3)
                assert labels.shape == size
                assert labels.max() < len(CLASSES)

    def test_a_size_below_64_pixels_is_refused_with_the_size_in_the_message(self) -> None:
        with pytest.raises(ValueError, match="63 x 200"):
            Street((63, 200))

    def test_it_never_ends(self) -> None:
        street = Street(SMALL)
        labels = street.render(3.0e6)[1]
        assert {SKY, ROAD} <= set(np.unique(labels).tolist())


class TestGroundTruth:
    """The labels match the drawn pixels."""

    @pytest.mark.parametrize("seed", range(6))
    def test_a_street_painted_in_its_class_colours_is_its_own_label_map(self, seed: int) -> None:
        street = Street((135, 240), seed=seed)
        street._class_colours = True
        colours = np.array(PALETTE, np.uint8)[:, ::-1]
        for part in range(25):
            image, labels = street.render(1.9 * part)
            np.testing.assert_array_equal(image, colours[labels])

    def test_light_haze_and_lens_do_not_change_labels(self) -> None:
        plain, full = Street(SMALL, seed=3), Street(SMALL, seed=3)
        plain._class_colours = True
        for part in range(10):
            np.testing.assert_array_equal(plain.render(2.0 * part)[1], full.render(2.0 * part)[1])

    def test_edges_of_the_labels_are_edges_of_the_image(self) -> None:
        # If the labels were shifted, there would be no more contrast at their edges than elsewhere.
        near, anywhere = [], []
        for seed in range(6):
            image, labels = Street((270, 480), seed=seed).render(6.0)
            grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(int)
            step = np.abs(np.diff(grey, axis=1))
            edge = np.diff(labels.astype(int), axis=1) != 0
            near.append(step[edge].mean())
            anywhere.append(step[np.roll(edge, 8, axis=1)].mean())
        assert np.mean(near) > 2 * np.mean(anywhere)

    def test_there_is_road_under_a_car(self) -> None:
        street = Street((270, 480), seed=1)
        below = []
        for part in range(20):
            labels = street.render(2.5 * part)[1]
            rows, columns = np.nonzero((labels[:-1] == CAR) & (labels[1:] != CAR))
            below.append(labels[rows + 1, columns])
        assert (np.concatenate(below) == ROAD).mean() > 0.8


class TestSource:
    def test_frames_come_25_a_second_from_zero(self) -> None:
        demo = source("demo:2@160x120")
        frames = list(demo)
        assert [frame.index for frame in frames] == list(range(50))
        assert [frame.pts_s for frame in frames] == [index / 25 for index in range(50)]
        assert {frame.image.shape for frame in frames} == {(120, 160, 3)}
        assert (demo.name, demo.fps, demo.live, demo.frame_count) == ("demo", FPS, False, 50)

    def test_without_seconds_it_is_endless_and_has_no_frame_count(self) -> None:
        demo = source("demo:@64x64")
        assert demo.frame_count is None
        assert len(list(itertools.islice(demo, 300))) == 300

    def test_the_default_size_is_960_by_540(self) -> None:
        (frame,) = source("demo", max_frames=1)
        assert frame.image.shape == (540, 960, 3)

    def test_the_ground_truth_of_a_frame_is_available_by_its_time(self) -> None:
        demo = source("demo:1@160x120")
        for frame in itertools.islice(demo, 3):
            image, labels = demo.street.render(frame.pts_s)
            np.testing.assert_array_equal(frame.image, image)
            np.testing.assert_array_equal(demo.labels_at(frame.pts_s), labels)

    def test_reading_again_gives_the_same_bytes(self) -> None:
        demo = source("demo:0.2@160x120")
        for one, other in zip(demo, list(demo), strict=True):
            np.testing.assert_array_equal(one.image, other.image)

    @pytest.mark.parametrize("start_s", [0.0, 0.04, 0.05, 0.28, 1.0, 1.95])
    def test_start_skips_to_the_first_frame_not_before_it(self, start_s: float) -> None:
        expected = [index for index in range(50) if index / 25 >= start_s - 1e-6]
        frames = list(source("demo:2@64x64", start_s=start_s))
        assert [frame.pts_s for frame in frames] == [index / 25 for index in expected]

    def test_skipped_frames_are_not_drawn(self) -> None:
        (frame,) = source("demo:@64x64", start_s=1e6, max_frames=1)
        assert frame.pts_s == 1e6

    def test_duration_stride_and_max_frames_select_frames(self) -> None:
        frames = list(source("demo:@64x64", start_s=1.0, duration_s=0.4, stride=3))
        assert [frame.pts_s for frame in frames] == [1.0, 1.12, 1.24, 1.36]
        assert len(list(source("demo:@64x64", max_frames=7))) == 7

    def test_a_loop_starts_again_with_rising_times(self) -> None:
        frames = list(source("demo:0.2@64x64", loop=True, max_frames=12))
        assert [frame.index for frame in frames] == list(range(12))
        np.testing.assert_allclose([frame.pts_s for frame in frames], np.arange(12) / 25, atol=1e-9)
        np.testing.assert_array_equal(frames[0].image, frames[5].image)

    def test_it_ends_after_stop(self) -> None:
        demo = source("demo:@64x64")
        count = 0
        for frame in demo:
            count += 1
            if frame.index == 4:
                demo.stop()
        assert count == 5

    @pytest.mark.parametrize(
        "where",
        [
            "demo:abc",
            "demo:-1",
            "demo:0",
            "demo:nan",
            "demo:inf",
            "demo:",
            "demo:5@",
            "demo:5@960",
            "demo:5@0x0",
            "demo:5@32x32",
            "demo:@99999x99999",
            "demo@64x64",
            "demonstration",
            "",
        ],
    )
    def test_malformed_text_is_refused_with_examples(self, where: str) -> None:
        with pytest.raises(OptionError, match=r"write demo, demo:SECONDS or demo:SECONDS@WIDTHxHEIGHT"):
            source(where)

    def test_a_fraction_of_a_frame_counts_as_a_frame(self) -> None:
        assert source("demo:0.01@64x64").frame_count == 1
        assert source("demo:0.12@64x64").frame_count == 3


def test_each_class_has_a_distinct_colour() -> None:
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == 11
