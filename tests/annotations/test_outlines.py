from __future__ import annotations

import numpy as np
import pytest

from rtseg.annotations.outlines import Ring, fill_rings, single_ring, trace_outlines
from rtseg.frame import Labels


def _area(ring: Ring) -> float:
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_filled_outlines_return_every_pixel_once(labels: Labels) -> None:
    painted = np.full_like(labels, 255)
    for outline in trace_outlines(labels, 3):
        mask = fill_rings(outline.rings, labels.shape)
        assert (painted[mask] == 255).all()
        assert mask.sum() == outline.area == sum(map(_area, outline.rings))
        painted[mask] = outline.class_id
    assert np.array_equal(painted, labels)


def test_no_ring_meets_itself_and_holes_turn_the_other_way(labels: Labels) -> None:
    for outline in trace_outlines(labels, 3):
        for ring in outline.rings:
            assert len(np.unique(ring, axis=0)) == len(ring)
        assert _area(outline.exterior) > 0
        assert all(_area(hole) < 0 for hole in outline.holes)


def test_one_line_with_the_holes_covers_the_same_pixels(labels: Labels) -> None:
    for outline in trace_outlines(labels, 3):
        joined = fill_rings([single_ring(outline)], labels.shape)
        assert np.array_equal(joined, fill_rings(outline.rings, labels.shape))


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools with numpy 2
def test_the_coco_api_fills_it_with_the_same_pixels(labels: Labels) -> None:
    api = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    for outline in trace_outlines(labels, 3):
        codes = api.frPyObjects([single_ring(outline).ravel().tolist()], *labels.shape)
        assert np.array_equal(api.decode(api.merge(codes)) == 1, fill_rings(outline.rings, labels.shape))


def test_an_area_that_closes_over_a_corner_has_a_hole_of_its_own() -> None:
    labels = np.full((3, 3), 255, np.uint8)
    labels[[0, 0, 1, 1, 2, 2, 2], [1, 2, 0, 2, 0, 1, 2]] = 0  # the hole in the middle touches the outside
    (outline,) = trace_outlines(labels, 1)
    assert [len(ring) for ring in outline.rings] == [6, 4]


def test_a_tolerance_drops_corners_and_specks_and_stays_near() -> None:
    rows, columns = np.mgrid[:200, :300]
    labels = np.where((rows - 100) ** 2 + (columns - 150) ** 2 < 80**2, 0, 1).astype(np.uint8)
    labels[5, 5] = 0
    exact, simple = (list(trace_outlines(labels, 2, tolerance)) for tolerance in (0, 1.0))
    assert len(exact) == 3
    assert [outline.class_id for outline in simple] == [0, 1]
    assert sum(map(len, simple[0].rings)) < sum(map(len, exact[1].rings)) / 3
    differs = fill_rings(simple[0].rings, labels.shape) != fill_rings(exact[1].rings, labels.shape)
    assert differs.mean() < 0.005


def test_parts_outside_of_the_image_are_cut_off() -> None:
    ring = np.array([(-5.0, -3.0), (2.0, -3.0), (2.0, 9.0), (-5.0, 9.0)])
    assert fill_rings([ring], (4, 6)).nonzero()[1].max() == 1
    assert fill_rings([ring], (4, 6)).sum() == 8


def test_a_corner_far_away_is_refused() -> None:
    for value in (np.nan, np.inf, 1e9):
        with pytest.raises(ValueError, match="not near"):
            fill_rings([np.array([(0.0, 0.0), (value, 0.0), (1.0, 1.0)])], (4, 6))
