from __future__ import annotations

import numpy as np
import pytest

from rtseg.errors import OptionError
from rtseg.frame import Image, Labels
from rtseg.pipeline.tiles import label_tiles, tile_ranges
from rtseg.system.opencv import cv2


@pytest.mark.parametrize("length", [1, 31, 32, 33, 63, 64, 100, 257])
@pytest.mark.parametrize("overlap", [0, 8, 16])
def test_every_pixel_is_taken_once_from_a_tile_that_holds_it(length: int, overlap: int) -> None:
    ranges = [*tile_ranges(length, 32, overlap)]
    assert [pixel for *_, first, end in ranges for pixel in range(first, end)] == [*range(length)]
    assert all(start <= first < end <= stop and stop - start == min(32, length) for start, stop, first, end in ranges)


@pytest.mark.parametrize("overlap", [0, 16])
def test_an_overlap_of_what_the_network_sees_leaves_no_seam(overlap: int) -> None:
    """The label is whether a pixel is brighter than the mean of the 13 pixels around it."""
    image = np.random.default_rng(1).integers(0, 256, (150, 211, 3), np.uint8)

    def predict(window: Image) -> Labels:
        grey = window[..., 0].astype(np.float32)
        return (grey > cv2.blur(grey, (13, 13), borderType=cv2.BORDER_REFLECT)).astype(np.uint8)

    labels = np.full(image.shape[:2], 255, np.uint8)

    def write(top: int, left: int, part: Labels) -> None:
        assert (labels[top : top + part.shape[0], left : left + part.shape[1]] == 255).all()
        labels[top : top + part.shape[0], left : left + part.shape[1]] = part

    label_tiles(image.shape[:2], 64, overlap, lambda w: image[w[0] : w[0] + w[2], w[1] : w[1] + w[3]], predict, write)
    assert (labels != 255).all()
    assert np.array_equal(labels, predict(image)) == (overlap == 16)


def test_too_large_an_overlap_is_refused() -> None:
    with pytest.raises(OptionError, match="at most half of --tiles, 32"):
        label_tiles((99, 99), 64, 33, lambda w: np.zeros(1), lambda i: i, lambda *_: None)
