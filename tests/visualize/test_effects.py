from __future__ import annotations

import numpy as np
import pytest

from rtseg.frame import Image, Labels
from rtseg.visualize.effects import Blur, ReplaceBackground

HEIGHT, WIDTH = 200, 300


@pytest.fixture
def noise() -> Image:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def labels() -> Labels:
    """Class 1 in a large area and in one pixel, class 0 elsewhere."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[60:140, 90:190] = 1
    labels[9, 9] = 1
    return labels


def test_nothing_of_a_blurred_class_and_its_margin_is_left(noise: Image, labels: Labels) -> None:
    before = noise.copy()
    blurred = Blur([1])(noise, labels)
    assert np.array_equal(noise, before)
    for area in (blurred[60:140, 90:190], blurred[56:144, 86:194], blurred[5:14, 5:14]):
        assert np.abs(np.diff(area.astype(int), axis=0)).max() <= 12  # the noise had steps of up to 255
        assert np.abs(np.diff(area.astype(int), axis=1)).max() <= 12
    assert np.array_equal(blurred[:, 220:], noise[:, 220:])
    assert np.array_equal(blurred[30:40, 30:60], noise[30:40, 30:60])


def test_an_area_is_reduced_to_few_colours_however_large_it_is(labels: Labels) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, ::20] = 255  # finer than an eighth of the area
    labels[:] = 1
    assert np.ptp(Blur([1])(image, labels)) <= 40


def test_pixels_without_a_class_are_blurred_too(noise: Image, labels: Labels) -> None:
    unknown = np.where(labels == 1, 255, labels).astype(np.uint8)
    assert np.array_equal(Blur([1])(noise, unknown), Blur([1])(noise, labels))


def test_without_the_class_the_image_stays(noise: Image, labels: Labels) -> None:
    assert Blur([2])(noise, labels) is noise


def test_another_background_covers_all_but_the_kept_classes(noise: Image, labels: Labels) -> None:
    background = np.full((50, 50, 3), (10, 20, 30), np.uint8)
    replaced = ReplaceBackground(background, [1])(noise, labels)
    assert np.array_equal(replaced[66:134, 96:184], noise[66:134, 96:184])
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[54:146, 84:196] = outside[3:16, 3:16] = False
    assert (replaced[outside] == (10, 20, 30)).all()


def test_the_middle_of_the_background_fills_the_image(noise: Image) -> None:
    background = np.zeros((100, 400, 3), np.uint8)
    background[:, 200:] = 200
    replaced = ReplaceBackground(background, [])(noise, np.zeros((HEIGHT, WIDTH), np.uint8))
    assert (replaced[:, : WIDTH // 2 - 5] == 0).all()
    assert (replaced[:, WIDTH // 2 + 5 :] == 200).all()
