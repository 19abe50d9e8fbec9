from __future__ import annotations

import numpy as np
import pytest

from rtseg.errors import OptionError
from rtseg.regions import parse_region, parse_regions
from rtseg.regions.masks import Regions


def test_labels_outside_of_the_regions_without_a_name_become_void() -> None:
    labels = np.full((10, 20), 7, np.uint8)
    limited = Regions(parse_regions(["2,1,5,3", "10,5,2,2", "gate=0,0,20,10"])).limit(labels)
    expected = np.full((10, 20), 255, np.uint8)
    expected[1:4, 2:7] = 7
    expected[5:7, 10:12] = 7
    assert np.array_equal(limited, expected)
    assert (labels == 7).all(), "the labels of the caller were changed"


def test_without_a_limit_the_labels_are_passed_on_as_they_are() -> None:
    labels = np.zeros((10, 20), np.uint8)
    assert Regions().limit(labels) is labels
    assert Regions([parse_region("gate=0,0,5,5")]).limit(labels) is labels


def test_two_polygons_that_share_an_edge_cover_every_pixel_once() -> None:
    regions = Regions(parse_regions(["a=0,0 20,0 20,10", "b=0,0 20,10 0,10"]))
    covered = np.zeros((10, 20), int)
    for mask in regions.named((10, 20)).values():
        covered[mask.rows, mask.columns] += mask.inside > 0
    assert (covered == 1).all()


def test_a_crop_is_void_outside_of_the_polygon() -> None:
    labels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    (mask,) = Regions([parse_region("a=4,2 10,2 4,8")]).named((10, 20)).values()
    crop = mask.crop(labels)
    assert crop.shape == (5, 5)
    assert crop[0, 0] == labels[2, 4]
    assert crop[4, 4] == 255
    assert (crop != 255).sum() == 15


def test_a_region_of_the_whole_frame_limits_nothing() -> None:
    labels = np.full((48, 64), 3, np.uint8)
    assert (Regions([parse_region("0,0,100%,100%")]).limit(labels) == 3).all()


def test_regions_in_pixels_are_scaled_where_frames_change_their_size() -> None:
    regions = Regions([parse_region("5,5,5,5")])
    assert (regions.limit(np.zeros((10, 20), np.uint8)) == 0).sum() == 25
    assert (regions.limit(np.zeros((20, 40), np.uint8)) == 0).sum() == 100
    assert (regions.limit(np.zeros((10, 20), np.uint8)) == 0).sum() == 25


class TestReplacing:
    def test_other_regions_are_used_from_the_next_frame_on(self) -> None:
        regions, labels = Regions(), np.zeros((10, 20), np.uint8)
        regions.limit(labels)
        regions.replace(parse_regions(["0,0,10,10", "gate=0,0,2,2"]))
        assert (regions.limit(labels) == 0).sum() == 100
        assert regions.names == [*regions.named((10, 20))] == ["gate"]

    def test_regions_beyond_the_frame_are_refused_at_once_and_the_earlier_ones_stay(self) -> None:
        regions = Regions([parse_region("a=0,0,2,2")])
        regions.named((10, 20))
        with pytest.raises(OptionError, match="the frame has 20x10 pixels"):
            regions.replace([parse_region("b=0,0,30,2")])
        assert regions.names == ["a"]

    def test_new_regions_are_in_pixels_of_the_latest_frame(self) -> None:
        regions = Regions()
        regions.named((10, 20))
        regions.named((100, 200))
        regions.replace([parse_region("0,0,150,50")])
        assert (regions.limit(np.zeros((100, 200), np.uint8)) == 0).sum() == 7500


def test_a_region_between_the_centres_of_pixels_is_refused() -> None:
    with pytest.raises(OptionError, match="--roi a holds no pixel"):
        Regions([parse_region("a=1.6,1.6,0.2,0.2")]).named((10, 20))
