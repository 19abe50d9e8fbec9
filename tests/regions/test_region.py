from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import OptionError
from rtseg.regions import Region, parse_region, parse_regions


@pytest.mark.parametrize(
    ("text", "name", "points"),
    [
        ("10,20,30,40", "", ((10, 20), (40, 20), (40, 60), (10, 60))),
        ("gate=10,20,30,40", "gate", ((10, 20), (40, 20), (40, 60), (10, 60))),
        ("gate = 10, 20, 30, 40", "gate", ((10, 20), (40, 20), (40, 60), (10, 60))),
        ("0,0 50,0 50,40.5", "", ((0, 0), (50, 0), (50, 40.5))),
        ("yard-2=0,50% 100%,50% 50%,100%", "yard-2", ((0, 50), (200, 50), (100, 100))),
        ("0.25,0.5,0.5,0.5", "", ((50, 50), (150, 50), (150, 100), (50, 100))),
        ("0.7,0.1,0.3,0.9", "", ((140, 10), (200, 10), (200, 100), (140, 100))),
        ("0,0,1,1", "", ((0, 0), (1, 0), (1, 1), (0, 1))),
    ],
)
def test_boxes_and_polygons_are_read_in_pixels_percent_and_fractions(
    text: str, name: str, points: tuple[tuple[float, float], ...]
) -> None:
    region = parse_region(text).in_pixels((100, 200))
    assert region.name == name
    assert np.allclose(region.points, points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be x,y,width,height or at least three points"),
        ("1,2,3", "must be x,y,width,height"),
        ("1,2 3,4", "must be x,y,width,height"),
        ("a,b,c,d", "must be x,y,width,height"),
        ("1,2,3,-4", "must be x,y,width,height"),
        ("1e9,2,3,4", "must be x,y,width,height"),
        ("10%,20,30%,40%", "mixes pixels and percent"),
        ("two words=1,2,3,4", "one word"),
        ("=1,2,3,4", "one word"),
        ("1,2,0,4", "area of the region is 0"),
        ("0,0 1,1 2,2", "area of the region is 0"),
        ("50%,0,60%,10%", "at most 1"),
        (" ".join(["1,1"] * 257), "3 to 256 corners, got 257"),
    ],
)
def test_a_wrong_region_is_refused_with_its_form(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_region(text)


def test_a_region_beyond_the_frame_is_refused_with_the_size_of_the_frame() -> None:
    message = r"--roi gate reaches to 700,60, but the frame has 640x480 pixels \(width x height\)"
    with pytest.raises(OptionError, match=message):
        parse_region("gate=600,20,100,40").in_pixels((480, 640))
    assert parse_region("600,440,40,40").in_pixels((480, 640)).points[2] == (640, 480)


def test_names_must_differ_and_their_number_is_bounded() -> None:
    assert [region.name for region in parse_regions(["a=1,1,2,2", "1,1,2,2", "2,2,2,2"])] == ["a", "", ""]
    with pytest.raises(OptionError, match="two regions are named a"):
        parse_regions(["a=1,1,2,2", "a=1,1,3,3"])
    with pytest.raises(OptionError, match="64 times, got 65"):
        parse_regions(["1,1,2,2"] * 65)


def test_a_region_made_in_a_program_is_checked_too() -> None:
    with pytest.raises(OptionError, match="not be negative"):
        Region(((0, 0), (-1, 5), (5, 5)))


@given(st.text(alphabet="gate=,.% 0123456789-\n\x00é", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        region = parse_region(text)
    except OptionError as error:
        message = str(error)
    else:
        assert len(region.points) >= 3
    assert "\n" not in message
