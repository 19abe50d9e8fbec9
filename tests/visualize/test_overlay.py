from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from rtseg.errors import OptionError
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.visualize.overlay import VIEWS, Overlay, OverlayOptions

ROAD, CAR, SKY = 0, 1, 2
SPEC = ModelSpec("tiny", ("Road", "Car", "Sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)), (64, 64))
BGR = {index: np.array(colour[::-1]) for index, colour in enumerate(SPEC.palette)}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.full((48, 64), SKY, np.uint8)
    labels[24:] = ROAD
    labels[30:40, 20:40] = CAR
    return labels


def draw(image: np.ndarray, labels: np.ndarray, **options: object) -> np.ndarray:
    return Overlay(SPEC, OverlayOptions(**options)).draw(image, labels)


def test_the_overlay_mixes_image_and_class_colour_by_alpha(image: np.ndarray, labels: np.ndarray) -> None:
    colours = np.array([BGR[index] for index in range(3)])[labels]
    for alpha in (0.0, 0.3, 1.0):
        wanted = image * (1 - alpha) + colours * alpha
        assert np.abs(draw(image, labels, alpha=alpha) - wanted).max() <= 0.51


def test_the_mask_shows_only_class_colours_and_black_without_a_class(image: np.ndarray, labels: np.ndarray) -> None:
    labels[0, 0] = VOID
    labels[0, 1] = 77  # an ID that the model does not have
    mask = draw(image, labels, view="mask")
    assert (mask[30, 20] == BGR[CAR]).all()
    assert (mask[47, 0] == BGR[ROAD]).all()
    assert not mask[0, :2].any()


def test_the_view_side_shows_the_image_on_the_left_and_the_overlay_on_the_right(
    image: np.ndarray, labels: np.ndarray
) -> None:
    both = draw(image, labels, view="side")
    assert both.shape == (48, 128, 3)
    assert (both[:, :64] == image).all()
    assert (both[:, 64:] == draw(image, labels)).all()


def test_the_view_image_is_the_image(image: np.ndarray, labels: np.ndarray) -> None:
    assert (draw(image, labels, view="image") == image).all()


def test_hidden_classes_and_void_leave_the_image_plain(image: np.ndarray, labels: np.ndarray) -> None:
    labels[0, :5] = VOID
    drawn = draw(image, labels, hidden=frozenset({SKY}))
    assert (drawn[:24] == image[:24]).all()
    assert (drawn[24:] == draw(image, labels)[24:]).all()
    assert not draw(image, labels, view="mask", hidden=frozenset({SKY}))[:24].any()


@pytest.mark.parametrize("view", VIEWS)
def test_the_image_and_the_labels_are_never_written_to(image: np.ndarray, labels: np.ndarray, view: str) -> None:
    labels[0, 0] = VOID
    image.flags.writeable = labels.flags.writeable = False
    before = image.copy()
    drawn = draw(image, labels, view=view, contours=True, legend=True, hidden=frozenset({CAR}))
    assert not np.shares_memory(drawn, image)
    assert (image == before).all()


@pytest.mark.parametrize("view", VIEWS)
def test_a_drawn_image_stays_as_it_is_while_later_ones_are_drawn(
    image: np.ndarray, labels: np.ndarray, view: str
) -> None:
    overlay = Overlay(SPEC, OverlayOptions(view=view, contours=True))
    first = overlay.draw(image, labels)
    copy, part = first.copy(), first[10:20, ::-1]
    for shift in range(1, 5):
        overlay.draw(255 - image, np.roll(labels, 7 * shift, axis=0))
    assert (first == copy).all()
    del first  # a slice keeps the memory in use
    overlay.draw(255 - image, np.roll(labels, 11, axis=0))
    assert (part == copy[10:20, ::-1]).all()


def test_the_memory_of_a_released_image_is_reused(image: np.ndarray, labels: np.ndarray) -> None:
    overlay = Overlay(SPEC)
    addresses = {overlay.draw(image, labels).ctypes.data for _ in range(5)}
    assert len(addresses) == 1


def test_contours_are_white_lines_only_along_class_borders(image: np.ndarray, labels: np.ndarray) -> None:
    drawn, plain = draw(image, labels, contours=True), draw(image, labels)
    changed = (drawn != plain).any(axis=2)
    assert (drawn[changed] == 255).all()
    assert changed[22:26, 5].any()
    assert changed[23:26].sum(axis=0).max() <= 2
    assert not changed[:22].any()
    assert not changed[32:38, 24:36].any()


def test_contours_on_the_plain_image_have_the_colours_of_both_sides(image: np.ndarray, labels: np.ndarray) -> None:
    drawn = draw(image, labels, view="image", contours=True)
    column = drawn[20:28, 5].tolist()
    assert BGR[SKY].tolist() in column
    assert BGR[ROAD].tolist() in column
    assert (drawn[:20] == image[:20]).all()


def test_there_is_no_contour_between_hidden_classes(image: np.ndarray, labels: np.ndarray) -> None:
    drawn = draw(image, labels, view="image", contours=True, hidden=frozenset({SKY, ROAD}))
    assert (drawn[:28] == image[:28]).all()
    assert (drawn[28:42] != image[28:42]).any()


@pytest.mark.parametrize("size", [(120, 160), (180, 320), (540, 960), (2160, 3840)])
def test_the_legend_shows_the_colour_of_every_class_in_any_size(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 90, np.uint8)
    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 3], labels[: size[0] // 9] = CAR, SKY
    drawn = draw(image, labels, legend=True, view="image")
    for colour in BGR.values():
        assert (drawn == colour).all(axis=2).sum() >= 9
    changed = np.argwhere((drawn != image).any(axis=2))
    assert (changed.max(axis=0) < (size[0], size[1] * 0.6)).all()
    assert drawn.max() > 200, "the text is bright"


def test_the_legend_does_not_move_when_a_class_leaves_the_image(image: np.ndarray, labels: np.ndarray) -> None:
    image, labels = (np.kron(a, np.ones((5, 5, *[1] * (a.ndim - 2)), np.uint8)) for a in (image, labels))
    overlay = Overlay(SPEC, OverlayOptions(view="image", legend=True))
    without = np.where(labels == CAR, ROAD, labels).astype(np.uint8)
    areas = [(overlay.draw(image, shown) != image).any(axis=2) for shown in (labels, without)]
    for axis in (0, 1):
        ends = [np.flatnonzero(area.any(axis=axis))[[0, -1]] for area in areas]
        assert np.abs(ends[0] - ends[1]).max() <= 1


@pytest.mark.parametrize("size", [(120, 160), (60, 80), (400, 90), (480, 640)])
def test_a_long_class_name_is_cut_before_the_percentage(size: tuple[int, int]) -> None:
    plain, labels = np.full((*size, 3), 90, np.uint8), np.zeros(size, np.uint8)
    drawn = []
    for length in (10, 20, 60, 300, 301):
        spec = replace(SPEC, classes=("W" * length, *SPEC.classes[1:]))
        drawn.append(Overlay(spec, OverlayOptions(view="image", legend=True)).draw(plain, labels))
    assert (drawn[-1] == drawn[-2]).all()
    assert (drawn[-1] != plain).any()


def test_a_hidden_class_is_not_in_the_legend() -> None:
    image, labels = np.full((240, 320, 3), 90, np.uint8), np.full((240, 320), CAR, np.uint8)
    drawn = draw(image, labels, view="image", legend=True, hidden=frozenset({CAR}))
    assert not (drawn == BGR[CAR]).all(axis=2).any()


class TestALegendOfManyClasses:
    PALETTE = tuple((10 + index, 255 - index, 77) for index in range(150))
    MANY = ModelSpec("many", tuple(f"class {index}" for index in range(150)), PALETTE, (64, 64))
    IMAGE = np.full((480, 640, 3), 90, np.uint8)

    def rows_of(self, drawn: np.ndarray, indices: Iterable[int]) -> list[int]:
        """Classes whose colour is in the panel, from top to bottom."""
        tops = {index: (drawn == self.PALETTE[index][::-1]).all(axis=2).any(axis=1) for index in indices}
        return sorted((index for index in indices if tops[index].any()), key=lambda index: int(tops[index].argmax()))

    def test_the_largest_are_listed_first_and_the_rest_as_others(self) -> None:
        overlay = Overlay(self.MANY, OverlayOptions(view="image", legend=True))
        labels = np.repeat(np.arange(40, dtype=np.uint8), np.arange(60, 20, -1) // 2)[None].repeat(480, 0)[:, :640]
        few = overlay.draw(self.IMAGE, np.where(labels < 15, labels, 0).astype(np.uint8))
        assert self.rows_of(few, range(150)) == list(range(15))
        many = Overlay(self.MANY, OverlayOptions(view="image", legend=True)).draw(self.IMAGE, labels)
        assert self.rows_of(many, range(150)) == list(range(15))
        row_16 = np.s_[274:284, :200]
        assert (few[row_16] == 90).all()
        assert many[row_16].max() > 90, "the others"

    def test_rows_keep_their_order_when_shares_change_for_a_frame(self) -> None:
        overlay = Overlay(self.MANY, OverlayOptions(view="image", legend=True))
        usual = np.where(np.arange(640) < 400, 7, 140).astype(np.uint8)[None].repeat(480, 0)
        other = np.where(np.arange(640) < 300, 7, 140).astype(np.uint8)[None].repeat(480, 0)
        assert self.rows_of(overlay.draw(self.IMAGE, usual), (7, 140)) == [7, 140]
        assert self.rows_of(overlay.draw(self.IMAGE, other), (7, 140)) == [7, 140]
        for _ in range(30):
            drawn = overlay.draw(self.IMAGE, other)
        assert self.rows_of(drawn, (7, 140)) == [140, 7]


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (20, 400), (400, 20)])
def test_an_image_too_small_for_a_legend_has_none(size: tuple[int, int]) -> None:
    image, labels = np.full((*size, 3), 90, np.uint8), np.zeros(size, np.uint8)
    assert (draw(image, labels, view="image", legend=True) == image).all()


def test_the_image_size_may_change_between_calls(image: np.ndarray, labels: np.ndarray) -> None:
    overlay = Overlay(SPEC, OverlayOptions(contours=True, legend=True))
    overlay.draw(image, labels)
    assert overlay.draw(image[:30, :41], labels[:30, :41]).shape == (30, 41, 3)


def test_labels_of_another_size_are_refused_and_the_message_has_both_sizes(
    image: np.ndarray, labels: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=r"\(47, 64\).*\(48, 64\)"):
        draw(image, labels[1:])


def test_images_and_labels_of_another_dtype_are_refused(image: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="float32"):
        draw(image.astype(np.float32), labels)
    with pytest.raises(ValueError, match="int64"):
        draw(image, labels.astype(np.int64))


def test_invalid_options_are_refused() -> None:
    with pytest.raises(OptionError, match="unknown view 'sidee'; known are overlay, mask, side, image"):
        OverlayOptions(view="sidee")
    with pytest.raises(OptionError, match=r"alpha must be in \[0, 1\], got 1.5"):
        OverlayOptions(alpha=1.5)
    with pytest.raises(OptionError, match="class 3 cannot be hidden"):
        Overlay(SPEC, OverlayOptions(hidden=frozenset({3})))


def test_shares_ignore_pixels_without_a_class() -> None:
    labels = np.array([[0, 0, 0, 1], [1, VOID, VOID, 9]], np.uint8)
    assert class_shares(labels, 3).tolist() == [0.6, 0.4, 0.0]
    assert class_shares(np.full((4, 4), VOID, np.uint8), 3).tolist() == [0.0, 0.0, 0.0]


def test_shares_refuse_an_invalid_label_map() -> None:
    with pytest.raises(ValueError, match="float32"):
        class_shares(np.zeros((2, 2), np.float32), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="classes must be in"):
        class_shares(np.zeros((2, 2), np.uint8), 0)


@pytest.mark.parametrize("view", ["overlay", "mask", "side"])
def test_void_is_hatched_and_nothing_else(image: np.ndarray, labels: np.ndarray, view: str) -> None:
    labels[:12] = VOID
    plain, hatched = (draw(image, labels, view=view, hatched=hatched)[:, -64:] for hatched in (False, True))
    assert (hatched[12:] == plain[12:]).all()
    lines = (hatched[:12] != plain[:12]).any(-1)
    assert 0.05 < lines.mean() < 0.5
    assert {tuple(pixel) for pixel in hatched[:12][lines]} <= {(0, 0, 0), (255, 255, 255)}
    assert (255, 255, 255) in {tuple(pixel) for pixel in hatched[:12][lines]}


def test_the_plain_image_is_not_hatched(image: np.ndarray, labels: np.ndarray) -> None:
    labels[:12] = VOID
    assert (draw(image, labels, view="image", hatched=True) == image).all()
