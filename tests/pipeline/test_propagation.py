from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from helpers.moving_images import SIZE, moving, texture

from rtseg.errors import OptionError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.pipeline.propagation import Propagator

STILL = texture(SIZE)


def plain(label: int) -> Labels:
    return np.full(SIZE, label, np.uint8)


def spotted(label: int, spot: int) -> Labels:
    """Labels with a square of another class."""
    labels = plain(label)
    labels[80:100, 100:140] = spot
    return labels


def run(propagator: Propagator, images: list[Image], network: list[Labels]) -> list[Labels]:
    """The labels of each image; the network gives the next of ``network`` whenever it has to run."""
    answers, shown = iter(network), []
    for number, image in enumerate(images):
        if propagator.advance(image, number / 30):
            propagator.set_labels(next(answers))
        labels = propagator.labels()
        assert labels is not None
        shown.append(labels.copy())
    assert not list(answers), "the network ran less often than expected"
    return shown


class TestInterval:
    def test_the_network_runs_on_every_third_frame(self) -> None:
        propagator = Propagator(every=3)
        reasons = [propagator.advance(STILL, number / 30) and bool(propagator.start_key()) for number in range(7)]
        assert [bool(reason) for reason in reasons] == [True, False, False, True, False, False, True]

    def test_frames_between_have_the_labels_of_the_key_frame_before(self) -> None:
        shown = run(Propagator(every=2), [STILL] * 5, [plain(1), plain(2), plain(3)])
        assert [int(labels[0, 0]) for labels in shown] == [1, 1, 2, 2, 3]

    def test_labels_move_with_the_image(self) -> None:
        key = spotted(0, 5)
        shown = run(Propagator(every=10), moving(5, (0, -3)), [key])
        assert np.mean(shown[4] == np.roll(key, 12, axis=1)) > 0.99
        assert np.mean(key == np.roll(key, 12, axis=1)) < 0.995

    def test_a_scene_cut_starts_the_interval_again(self) -> None:
        propagator, other = Propagator(every=3), np.full((*SIZE, 3), (250, 20, 20), np.uint8)
        reasons = []
        for number, image in enumerate([STILL, STILL, other, other, other, other]):
            reasons.append(propagator.advance(image, number / 30))
            if reasons[-1]:
                propagator.set_labels(plain(number))
        assert reasons == ["first frame", "", "scene cut", "", "", "interval"]

    def test_the_network_runs_out_of_turn_once_a_quarter_of_the_image_is_new(self) -> None:
        propagator, reasons = Propagator(every=100), []
        for number, image in enumerate(moving(14, (0, 8))):
            grey = np.repeat(image[..., :1], 3, axis=2)  # no hue: no cut
            reasons.append(propagator.advance(grey, number / 30))
            if reasons[-1]:
                propagator.set_labels(plain(0))
        assert reasons.index("untrusted") in (10, 11, 12)
        assert set(reasons[1:10]) == {""}

    def test_after_reset_another_video_begins(self) -> None:
        propagator = Propagator(every=5)
        run(propagator, [STILL] * 2, [plain(1)])
        propagator.reset()
        assert propagator.labels() is None
        assert propagator.advance(STILL, 0.1) == "first frame"

    def test_an_interval_below_one_is_refused(self) -> None:
        with pytest.raises(OptionError, match="every must be 1 or more, got 0"):
            Propagator(every=0)


class TestMark:
    def test_pixels_that_are_not_trusted_become_void(self) -> None:
        shown = run(Propagator(every=10, mark=True), moving(4, (0, 4)), [plain(2)])
        assert (shown[3][:, -8:] == VOID).mean() > 0.9
        assert (shown[3][:, 20:-40] == 2).mean() > 0.97

    def test_without_it_every_pixel_has_a_class(self) -> None:
        shown = run(Propagator(every=10), moving(4, (0, 4)), [plain(2)])
        assert (shown[3] == 2).all()


class TestSmoothing:
    def smooth(self, *network: Labels) -> list[int]:
        """The class shown in the middle of the square for each frame."""
        shown = run(Propagator(every=1, smooth=True), [STILL] * len(network), list(network))
        return [int(labels[90, 120]) for labels in shown]

    def test_a_class_that_appears_once_is_not_shown(self) -> None:
        assert self.smooth(plain(0), spotted(0, 4), plain(0), plain(0)) == [0, 0, 0, 0]

    def test_a_class_is_shown_when_the_network_says_it_twice(self) -> None:
        assert self.smooth(plain(0), spotted(0, 4), spotted(0, 4), spotted(0, 4)) == [0, 0, 4, 4]

    def test_flickering_labels_become_steady(self) -> None:
        assert self.smooth(*[spotted(0, 4 * (number % 2)) for number in range(8)]) == [0] * 8

    def test_a_new_object_is_shown_at_once(self) -> None:
        changed = STILL.copy()
        changed[60:120, 80:160] = 0, 0, 255
        shown = run(Propagator(every=1, smooth=True), [STILL, changed], [plain(0), spotted(0, 4)])
        assert np.mean(shown[1][80:100, 100:140] == 4) > 0.6

    def test_it_compares_labels_at_the_places_to_which_they_moved(self) -> None:
        images, key = moving(4, (0, -3)), spotted(0, 4)
        network = [np.roll(key, 3 * number, axis=1) for number in range(4)]
        shown = run(Propagator(every=1, smooth=True), images, network)
        assert np.mean(shown[3] == network[3]) > 0.995

    def test_earlier_frames_are_freed(self) -> None:
        propagator, keys = Propagator(every=1, smooth=True), []
        for number in range(4):
            propagator.advance(STILL, number / 30)
            key = propagator.start_key()
            keys.append(weakref.ref(key))
            propagator.set_labels(plain(0), key)
            del key
        gc.collect()
        assert [key() is None for key in keys[:2]] == [True, True]


class TestLateLabels:
    def test_labels_of_an_older_frame_are_carried_onto_the_newest(self) -> None:
        propagator, images = Propagator(late=True), moving(5, (0, -3))
        propagator.advance(images[0], 0.0)
        key = propagator.start_key()
        assert propagator.labels() is None
        for number in range(1, 5):
            propagator.advance(images[number], number / 30)
        propagator.set_labels(spotted(0, 5), key)
        labels = propagator.labels()
        assert labels is not None
        assert np.mean(labels == np.roll(spotted(0, 5), 12, axis=1)) > 0.99

    def test_the_labels_before_stay_until_those_of_the_next_key_frame_come(self) -> None:
        propagator = Propagator(late=True)
        propagator.advance(STILL, 0.0)
        propagator.set_labels(plain(1))
        propagator.advance(STILL, 1 / 30)
        key = propagator.start_key()
        propagator.advance(STILL, 2 / 30)
        assert (propagator.labels() == 1).all()
        propagator.set_labels(plain(2), key)
        assert (propagator.labels() == 2).all()

    def test_labels_of_the_scene_before_a_cut_are_never_shown(self) -> None:
        propagator, other = Propagator(late=True), np.full((*SIZE, 3), (250, 20, 20), np.uint8)
        propagator.advance(STILL, 0.0)
        key = propagator.start_key()
        propagator.advance(other, 1 / 30)
        propagator.set_labels(plain(1), key)
        assert propagator.labels() is None
