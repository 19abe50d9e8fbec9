"""``variety=roads``: motorways, country roads, darkness, haze and long shadows, with exact labels."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.camvid_classes import PALETTE
from rtseg.datasets import open_dataset
from rtseg.errors import OptionError
from rtseg.synthetic.street import Street
from rtseg.synthetic.street.appearance import Appearance
from rtseg.synthetic.street.canvas import Camera, Painter
from rtseg.synthetic.street.class_ids import BUILDING, FENCE, PAVEMENT, PEDESTRIAN, ROAD, SKY
from rtseg.synthetic.street.roadside import Bridge
from rtseg.synthetic.street.variety import vary

SIZE = (96, 160)
SEEDS = range(300)
PLAIN = [Appearance.from_seed(seed, SIZE) for seed in SEEDS]
LOOKS = [vary(look, seed) for seed, look in zip(SEEDS, PLAIN, strict=True)]


def some(layout: str, count: int = 4) -> list[int]:
    """The first seeds of a layout."""
    return [seed for seed in SEEDS if LOOKS[seed].layout == layout][:count]


def test_by_default_there_are_only_town_streets() -> None:
    assert {look.layout for look in PLAIN} == {"street"}
    for plain, default in zip(
        Street(SIZE, seed=4, variety="none").render(3.0), Street(SIZE, seed=4).render(3.0), strict=True
    ):
        np.testing.assert_array_equal(plain, default)


def test_there_are_all_kinds_of_roads_and_light() -> None:
    assert {look.layout for look in LOOKS} == {"street", "motorway", "country"}
    assert {edge for look in LOOKS for edge in look.edges} == {"", "rail", "concrete", "wall"}
    assert min(look.gain.mean() for look in LOOKS) < 0.3 < 1.2 < max(look.gain.mean() for look in LOOKS)
    assert max(look.haze_per_m for look in LOOKS) > 0.02
    assert max(look.shadows for look in LOOKS) > 2
    assert max(max(look.banks_m) for look in LOOKS) > 4
    assert all(look.gain.mean() >= 0.15 for look in LOOKS)


@pytest.mark.parametrize("seed", [*some("motorway"), *some("country"), *some("street", 2)])
def test_every_pixel_has_the_class_of_what_is_drawn_there(seed: int) -> None:
    street = Street(SIZE, seed=seed, variety="roads")
    street._class_colours = True
    for time_s in (0.0, 21.3):
        image, labels = street.render(time_s)
        np.testing.assert_array_equal(image, np.array(PALETTE, np.uint8)[:, ::-1][labels])


@pytest.mark.parametrize("seed", some("motorway"))
def test_a_motorway_has_road_and_sky_but_neither_pavement_nor_people(seed: int) -> None:
    street = Street(SIZE, seed=seed, variety="roads")
    counts = sum(np.bincount(street.render(time_s)[1].ravel(), minlength=11) for time_s in (1.0, 9.0, 30.0))
    assert counts[PAVEMENT] == counts[PEDESTRIAN] == 0
    assert counts[ROAD] > 0.08 * counts.sum()
    assert counts[SKY] > 0.05 * counts.sum()


def test_guard_rails_are_fences() -> None:
    seed = next(seed for seed in some("motorway", 99) if LOOKS[seed].edges == ("rail", "rail"))
    labels = Street(SIZE, seed=seed, variety="roads").render(5.0)[1]
    assert (labels == FENCE).sum() > 20


def test_a_bridge_is_a_building_above_the_road() -> None:
    camera = Camera(LOOKS[some("motorway")[0]], 0.0)
    canvas = np.zeros((*SIZE, 4), np.uint8)
    painter = Painter(canvas, camera)
    Bridge(camera.z + 30, (-12.0, 12.0), 5.0, np.full(3, 120.0)).draw(painter)
    painter.flush()
    rows, columns = np.nonzero(canvas[..., 3] == BUILDING)
    assert len(rows)
    assert set(columns[rows < camera.horizon]) == set(range(SIZE[1]))
    assert set(np.unique(canvas[..., 3])) == {0, BUILDING}


def test_long_shadows_darken_the_ground_and_keep_the_classes() -> None:
    look = LOOKS[some("motorway")[0]]
    canvas = np.full((*SIZE, 4), 100, np.uint8)
    painter = Painter(canvas, Camera(look, 0.0))
    painter.darken_ground([np.array([(-9.0, 4.0), (9.0, 4.0), (9.0, 12.0), (-9.0, 12.0)])], 0.5)
    assert set(np.unique(canvas[..., :3])) == {50, 100}
    assert (canvas[..., 3] == 100).all()
    assert (canvas[: int(look.horizon), :, :3] == 100).all()


def test_the_data_set_has_the_option() -> None:
    roads, plain = (open_dataset(f"synthetic:street,frames=2{more}", "train") for more in (",variety=roads", ""))
    assert roads.name == "synthetic street train (2 frames of various roads)"
    assert not np.array_equal(roads.load(0)[0], plain.load(0)[0])
    with pytest.raises(OptionError, match="variety must be none or roads, got 'moon'"):
        open_dataset("synthetic:street,variety=moon", "train")
    with pytest.raises(ValueError, match="variety must be none or roads, got 'moon'"):
        Street(SIZE, variety="moon")
