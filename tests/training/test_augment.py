from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.datasets import Dataset, ReadFile
from rtseg.errors import OptionError
from rtseg.model_file.spec import VOID
from rtseg.preprocess import resize_labels
from rtseg.training.augment import Augmentation, RandomViews

CROP = (64, 96)
SIZE = (96, 128)
DARK, BRIGHT = 40, 150
STILL = Augmentation(scale=(1.0, 1.0), stretch=1.0, flips="none", colour=False)
GREY = 124

View = tuple[Tensor, Tensor]
Bytes = NDArray[np.uint8]


class Corner(Dataset):
    """A dark image with two bright corners, of class 1, in yellow. No view of it is like its mirror."""

    name = "corner"
    classes = ("dark", "bright")
    palette = ((0, 0, 0), (255, 255, 255))
    licence = "none"

    def __init__(self, length: int = 40) -> None:
        self.length = length
        self.loaded: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.length

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Bytes, Bytes]:
        self.loaded.append((index, epoch))
        labels = np.zeros((120, 160), np.uint8)
        labels[:70, :60] = 1
        labels[100:, 140:] = 1
        image = np.where(labels, BRIGHT, DARK).astype(np.uint8)[..., None].repeat(3, 2)
        image[..., 0] = 0  # blue, in the order of OpenCV
        return image, labels


class Ramps(Corner):
    """Red rises from left to right and green from top to bottom, from 0 to 250; so do the labels, in 25 x 10 steps.

    Where a pixel of a view was in the image can be read from its colour and, more coarsely, from its label.
    """

    height, width = 200, 250
    down, across = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    image = np.stack([np.full_like(down, BRIGHT), 250 * down, 250 * across], 2).round().astype(np.uint8)
    labels = (25 * (10 * down).astype(np.uint8) + (25 * across).astype(np.uint8)).astype(np.uint8)

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Bytes, Bytes]:
        return self.image, self.labels


class ExtraChannel(Corner):
    """``Corner`` with an extra channel that is 200 where the class is 1 and 100 elsewhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Bytes, Bytes]:
        image, labels = super().load(index, epoch)
        colours = image[..., 1:2] if self.channels == 2 else image
        return np.concatenate((colours, (100 + 100 * labels)[..., None]), 2), labels


class Film(Ramps):
    """Every image is a frame of one video. Frame t has t bright columns, of class 1."""

    def sequence(self, index: int) -> str | None:
        return "film"

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Bytes, Bytes]:
        self.loaded.append((index, epoch))
        labels = np.zeros(SIZE, np.uint8)
        labels[:, :index] = 1
        return np.where(labels, BRIGHT, DARK).astype(np.uint8)[..., None].repeat(3, 2), labels


def open_views(dataset: Dataset, augmentation: Augmentation = STILL, **changes: Any) -> RandomViews:
    return RandomViews([dataset], **({"crop": CROP, "size": SIZE, "augmentation": augmentation, "seed": 0} | changes))


def all_views(views: RandomViews) -> list[View]:
    return [views[place] for place in range(len(views))]


def inner(mask: Tensor) -> Tensor:
    """The pixels of (h, w) bool that lie more than three away from those that are False and from the rim."""
    return F.max_pool2d(F.pad((~mask)[None].float(), (3, 3, 3, 3), value=1.0), 7, 1)[0] == 0


def slopes(view: View) -> NDArray[np.float64]:
    """How red and green of a view of ``Ramps`` change in a pixel to the right and a pixel down, (2, 2)."""
    red_green, inside = view[0][:2].double(), inner(view[1] != VOID)
    right = (red_green[:, :, 1:] - red_green[:, :, :-1])[:, inside[:, 1:] & inside[:, :-1]].mean(1)
    down = (red_green[:, 1:] - red_green[:, :-1])[:, inside[1:] & inside[:-1]].mean(1)
    return np.stack([right.numpy(), down.numpy()], 1)


def scales(view: View) -> tuple[float, float]:
    """By how much a view of ``Ramps`` is taller and wider than the image resized to ``SIZE``, at any angle."""
    red, green = slopes(view)
    return 250 / (SIZE[0] * float(np.hypot(*green))), 250 / (SIZE[1] * float(np.hypot(*red)))


@pytest.fixture(scope="module")
def views() -> list[View]:
    return all_views(open_views(Corner(), Augmentation()))


class TestView:
    def test_it_is_an_image_and_labels_of_the_crops_size(self, views: list[View]) -> None:
        for image, labels in views:
            assert (type(image), image.dtype, image.shape) == (torch.Tensor, torch.uint8, (3, *CROP))
            assert (type(labels), labels.dtype, labels.shape) == (torch.Tensor, torch.int64, CROP)

    def test_image_and_labels_move_together(self, views: list[View]) -> None:
        both = 0
        for image, labels in views:
            light = image.float().amax(0)
            if not (labels == 0).any() or not (labels == 1).any():
                continue
            both += 1
            middle = (light[labels == 0].median() + light[labels == 1].median()) / 2
            known = labels != VOID
            right = (light[known] > middle) == (labels[known] == 1)
            assert right.float().mean() > 0.95  # but for the blurred edge
        assert both > 20, "views with one class prove nothing"

    def test_labels_are_never_mixed(self, views: list[View]) -> None:
        assert {int(value) for _, labels in views for value in labels.unique()} == {0, 1, VOID}

    def test_what_a_small_image_leaves_empty_is_void_and_of_one_colour(self, views: list[View]) -> None:
        uncovered = [(image, labels == VOID) for image, labels in views if (labels == VOID).float().mean() > 0.05]
        assert 1 <= len(uncovered) < len(views) / 2
        for image, void in uncovered:
            values = image.float().mean(0)[void]
            assert (values - values.median()).abs().quantile(0.8) < 6

    def test_images_come_as_rgb(self, views: list[View]) -> None:
        means = torch.stack([image.float().mean((1, 2)) for image, _ in views])
        assert (means[:, 0] > means[:, 2]).float().mean() > 0.8  # but for the grey ones
        assert means[:, 2].median() < 0.6 * means[:, 0].median()  # of the blue there is what is left empty

    def test_views_differ_in_brightness(self, views: list[View]) -> None:
        lights = [float(image[0][labels == 1].float().median()) for image, labels in views if (labels == 1).any()]
        assert max(lights) > 1.3 * min(lights)

    def test_a_still_view_of_the_models_size_is_the_image(self) -> None:
        image, labels = Corner().load(0)
        found, ids = open_views(Corner(), crop=labels.shape, size=labels.shape)[0]
        np.testing.assert_array_equal(found.numpy().transpose(1, 2, 0), image[..., ::-1])
        np.testing.assert_array_equal(ids, labels)


class TestResampling:
    def test_a_shrunk_view_is_averaged_and_its_labels_are_those_of_the_pixels_in_the_middle(self) -> None:
        class Noise(Corner):
            def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Bytes, Bytes]:
                random = np.random.default_rng(0)
                return random.integers(0, 256, (150, 200, 3), np.uint8), random.integers(0, 9, (150, 200), np.uint8)

        image, labels = Noise().load(0)
        found, ids = open_views(Noise(), crop=(50, 40), size=(50, 40))[0]
        wanted = F.interpolate(
            torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float(),
            (50, 40),
            mode="bilinear",
            antialias=True,
        )[0]
        assert (found - wanted).abs().max() <= 1  # rounding
        np.testing.assert_array_equal(ids, labels[1::3, 2::5])

    @pytest.mark.parametrize(
        "augmentation", [Augmentation(colour=False), Augmentation(rotation=180, flips="both", colour=False)]
    )
    def test_labels_lie_where_their_pixels_lie(self, augmentation: Augmentation) -> None:
        away, count = np.zeros(2), 0
        for image, labels in all_views(open_views(Ramps(), augmentation)):
            known = inner(labels != VOID)
            red, green = (image[place].double()[known] / 250 for place in (0, 1))
            across, down = (labels[known] % 25 + 0.5) / 25, (labels[known] // 25 + 0.5) / 10
            # Within half a step and a pixel; else it lies in another place than its colour.
            near = ((red - across).abs() < 0.02 + 0.008) & ((green - down).abs() < 0.05 + 0.008)
            assert near.double().mean() > 0.98
            away += [float((red - across)[near].sum()), float((green - down)[near].sum())]
            count += int(near.sum())
        # Over all views the middle of a step has the colour of the middle: no shift, to a tenth of a pixel.
        assert np.all(np.abs(away / count) < 0.1 / np.array([SIZE[1], SIZE[0]]))

    @pytest.mark.parametrize("rotation", [0.0, 180.0])
    def test_what_is_left_empty_is_grey_and_void_and_the_rest_is_neither(self, rotation: float) -> None:
        augmentation = Augmentation(scale=(0.4, 0.6), stretch=1, flips="none", rotation=rotation, colour=False)
        for image, labels in all_views(open_views(Ramps(), augmentation)):
            blue, void = image[2].float(), labels == VOID
            assert 0.2 < void.float().mean() < 0.9
            assert (image[:, inner(void)] == GREY).all()
            assert ((blue[inner(~void)] - BRIGHT).abs() <= 1).all()

    @pytest.mark.parametrize("scale", [0.6, 1.2])
    def test_void_is_all_that_lies_outside_of_the_image_and_nothing_else(self, scale: float) -> None:
        augmentation = Augmentation(scale=(scale, scale), rotation=180, colour=False)
        some = 0
        for image, labels in all_views(open_views(Ramps(), augmentation)):
            pixels = np.stack([*np.indices(CROP).reshape(2, -1), np.ones(CROP[0] * CROP[1])], 1)
            known = inner(labels != VOID).numpy().ravel()
            colours = image[:2].numpy().reshape(2, -1).T / 250
            # Red and green give the image positions of the known pixels, and by extrapolation those of all others.
            places = pixels @ np.linalg.lstsq(pixels[known], colours[known], rcond=None)[0]
            outside = np.abs(places - 0.5).max(1) - 0.5
            void = (labels == VOID).numpy().ravel()
            assert np.all(outside[void] > -0.02)
            assert np.all(outside[~void] < 0.02)
            some += int(void.any())
        assert some > 20


class TestScale:
    def test_it_is_relative_to_the_image_at_the_models_size(self) -> None:
        found = [scales(view) for view in all_views(open_views(Ramps(), Augmentation(stretch=1.0, colour=False)))]
        heights, widths = np.array(found).T
        np.testing.assert_allclose(heights, widths, rtol=0.06)
        assert 0.47 < heights.min() < 0.75
        assert 1.6 < heights.max() < 2.1

    def test_stretching_changes_the_aspect_ratio_both_ways_and_not_the_scale(self) -> None:
        augmentation = Augmentation(scale=(1.5, 1.5), stretch=1.5, colour=False)
        heights, widths = np.array([scales(view) for view in all_views(open_views(Ramps(), augmentation))]).T
        np.testing.assert_allclose(np.sqrt(heights * widths), 1.5, rtol=0.06)
        ratios = widths / heights
        assert 1 / 1.6 < ratios.min() < 0.8
        assert 1.25 < ratios.max() < 1.6

    def test_a_large_image_is_seen_in_all_its_places_and_without_void(self) -> None:
        places = []
        for image, labels in all_views(open_views(Ramps(), Augmentation(scale=(3, 3), flips="none", colour=False))):
            assert (labels != VOID).all()
            places.append(image[:2].float().mean((1, 2)).numpy() / 250)
        assert np.all(np.min(places, 0) < 0.25)
        assert np.all(np.max(places, 0) > 0.75)

    def test_a_small_image_is_seen_whole_in_all_places_of_the_view(self) -> None:
        corners = []
        for _, labels in all_views(open_views(Ramps(), Augmentation(scale=(0.4, 0.4), stretch=1, colour=False))):
            rows, columns = (torch.nonzero((labels != VOID).any(axis)) for axis in (1, 0))
            assert (len(rows), len(columns)) == (round(0.4 * SIZE[0]), round(0.4 * SIZE[1]))
            corners.append((int(rows[0]), int(columns[0])))
        room = np.array(CROP) - [0.4 * SIZE[0], 0.4 * SIZE[1]]
        assert np.all(np.min(corners, 0) < 0.25 * room)
        assert np.all(np.max(corners, 0) > 0.75 * room)

    def test_images_of_another_size_than_the_models_show_the_same(self) -> None:
        class Large(Corner):
            def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Bytes, Bytes]:
                return tuple(part.repeat(4, 0).repeat(4, 1) for part in super().load(index, epoch))  # type: ignore[return-value]

        augmentation = Augmentation(colour=False)
        for one, other in zip(
            *(all_views(open_views(each, augmentation)) for each in (Corner(), Large())), strict=True
        ):
            assert (one[1] == other[1]).float().mean() > 0.95


class TestFlips:
    @pytest.mark.parametrize(
        ("flips", "wanted"),
        [
            ("none", {(1, 1)}),
            ("horizontal", {(1, 1), (-1, 1)}),
            ("both", {(1, 1), (-1, 1), (1, -1), (-1, -1)}),
        ],
    )
    def test_only_what_is_asked_for_changes_places(self, flips: str, wanted: set[tuple[int, int]]) -> None:
        found = []
        for view in all_views(open_views(Ramps(), Augmentation(flips=flips, colour=False))):
            red, green = slopes(view)
            found.append((int(np.sign(red[0])), int(np.sign(green[1]))))
        assert set(found) == wanted
        assert min(found.count(each) for each in wanted) > len(found) / len(wanted) / 3


class TestRotation:
    def angles(self, rotation: float) -> NDArray[np.float64]:
        augmentation = Augmentation(scale=(1, 2), stretch=1.0, flips="none", rotation=rotation, colour=False)
        found = []
        for view in all_views(open_views(Ramps(), augmentation)):
            # In images of equal scale along both axes; SIZE has another aspect ratio than the images.
            red, green = slopes(view)
            angle = np.degrees(np.arctan2(-red[1], red[0]))
            other = np.degrees(np.arctan2(green[0], green[1]))
            assert abs((angle - other + 180) % 360 - 180) < 4  # turned, not sheared
            found.append(angle)
        return np.array(found)

    def test_angles_fill_the_range_that_is_asked_for(self) -> None:
        angles = self.angles(30)
        assert np.all(np.abs(angles) < 32)
        assert angles.min() < -18
        assert angles.max() > 18

    def test_any_angle_can_be_asked_for(self) -> None:
        counts, _ = np.histogram(self.angles(180), 4, (-180, 180))
        assert counts.min() >= 3

    def test_corners_of_a_turned_view_show_the_image_where_there_is_some(self) -> None:
        augmentation = Augmentation(scale=(6, 6), rotation=180, colour=False)
        voids = [float((labels == VOID).float().mean()) for _, labels in all_views(open_views(Ramps(), augmentation))]
        assert np.mean(np.array(voids) == 0) > 0.6  # the others lie at the rim of the image
        assert max(voids) > 0


class TestColour:
    def test_it_can_be_left_as_it_is(self) -> None:
        images = [
            image
            for image, labels in all_views(open_views(Corner(), Augmentation(colour=False, scale=(2, 2))))
            if (labels == 1).all() or (labels == 0).all()
        ]
        assert len(images) > 5
        for image in images:
            assert image[0].unique().tolist() in ([DARK], [BRIGHT])
            assert not image[2].any()

    @pytest.mark.parametrize("channels", [2, 4])
    def test_the_extra_channel_moves_along_and_keeps_its_values(self, channels: int) -> None:
        jittered = 0
        for image, labels in all_views(open_views(ExtraChannel(channels), Augmentation())):
            assert image.shape == (channels, *CROP)
            extra = image[-1].float()
            for label, value in ((0, 100), (1, 200), (VOID, GREY)):
                assert ((extra[inner(labels == label)] - value).abs() <= 1).all()
            jittered += not {DARK, BRIGHT} & set(image[0].unique().tolist())
        assert jittered > 10


class TestPreparation:
    def prepare(self, image: Bytes) -> Bytes:
        """Of another size, and with another value wherever it was bright."""
        self.seen = image
        return (
            np.where(resize_labels(np.ascontiguousarray(image[..., 1]), SIZE) > 100, 77, 33)
            .astype(np.uint8)[..., None]
            .repeat(3, 2)
        )

    def test_images_are_prepared_as_they_are_and_labels_follow(self) -> None:
        image, labels = Corner().load(0)
        found, ids = open_views(Corner(), crop=SIZE, prepare=self.prepare)[0]
        np.testing.assert_array_equal(self.seen, image)
        np.testing.assert_array_equal(ids, resize_labels(labels, SIZE))
        np.testing.assert_array_equal(found[0], np.where(ids == 1, 77, 33))

    def test_what_is_prepared_is_varied_after(self) -> None:
        values = set()
        for image, labels in all_views(open_views(Corner(), Augmentation(), prepare=self.prepare)):
            assert set(np.unique(self.seen)) == {0, DARK, BRIGHT}
            light = image[0].float()
            if (labels == 0).any() and (labels == 1).any():
                assert light[labels == 1].median() > light[labels == 0].median()
            values.add(int(light.max()))
        assert len(values) > 10


class TestClips:
    @pytest.mark.parametrize("colour", [False, True])
    def test_all_frames_of_a_clip_are_varied_alike(self, colour: bool) -> None:
        # An image that belongs to no video is repeated, so all views must be equal.
        items = all_views(open_views(Corner(12), Augmentation(rotation=30, flips="both", colour=colour), clip=3))
        for images, labels in items:
            assert (images.shape, labels.shape) == ((3, 3, *CROP), (3, *CROP))
            assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
            assert (images == images[:1]).all()
            assert (labels == labels[:1]).all()
        assert len({int(images.float().mean()) for images, _ in items}) > 6

    def test_frames_come_oldest_first_and_end_with_the_one_asked_for(self) -> None:
        film = Film()
        views = open_views(film, crop=SIZE, clip=3)
        views.epoch = 4
        images, labels = views[20]
        assert [int((frame == 1).sum() / SIZE[0]) for frame in labels] == [18, 19, 20]
        assert [int((frame[0] == BRIGHT).sum() / SIZE[0]) for frame in images] == [18, 19, 20]
        assert sorted(film.loaded) == [(18, 4), (19, 4), (20, 4)]

    def test_the_frames_of_a_clip_are_all_prepared(self) -> None:
        images, labels = open_views(Film(), crop=SIZE, clip=2, prepare=lambda image: 255 - image)[9]
        assert (images[:, 0] == torch.where(labels == 1, 255 - BRIGHT, 255 - DARK)).all()


class TestDeterminism:
    def same(self, one: RandomViews, other: RandomViews, place: int = 3) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one[place], other[place], strict=True))

    def views(self, *, seed: int = 0, epoch: int = 0) -> RandomViews:
        made = open_views(Corner(), Augmentation(rotation=10), seed=seed)
        made.epoch = epoch
        return made

    def test_a_view_depends_on_seed_epoch_and_place_alone(self) -> None:
        one, other = self.views(epoch=2), self.views(epoch=2)
        for place in (7, 1):
            other[place]  # in another order, and after other views
        torch.rand(5)
        assert self.same(one, other)

    def test_another_seed_another_epoch_and_another_place_give_another_view(self) -> None:
        view = self.views()
        assert not self.same(view, self.views(seed=1))
        assert not self.same(view, self.views(epoch=1))
        assert not all(torch.equal(a, b) for a, b in zip(view[3], view[4], strict=True))

    def test_drawing_views_leaves_the_random_state_of_the_program_alone(self) -> None:
        before = torch.random.get_rng_state()
        self.views()[0]
        assert torch.equal(torch.random.get_rng_state(), before)


def test_several_data_sets_are_concatenated_and_get_the_epoch() -> None:
    first, second = Corner(2), Corner(3)
    views = RandomViews([first, second], CROP, size=SIZE, augmentation=Augmentation(), seed=0)
    views.epoch = 5
    assert len(views) == 5
    for place in range(5):
        views[place]
    assert first.loaded == [(0, 5), (1, 5)]
    assert second.loaded == [(0, 5), (1, 5), (2, 5)]
    assert views.title(3) == second.title(1)


class TestChoices:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"scale": (2.0, 0.5)}, "--scale must be two factors between 0.05 and 20, the smaller first"),
            ({"scale": (0.0, 1.0)}, "--scale must be .* got 0 1"),
            ({"scale": (0.5, 21.0)}, "--scale must be .* got 0.5 21"),
            ({"scale": (float("nan"), 1.0)}, "--scale must be"),
            ({"stretch": 0.9}, "--stretch must be 1 .* to 4, got 0.9"),
            ({"stretch": float("inf")}, "--stretch must be"),
            ({"flips": "vertical"}, "--flips must be one of horizontal, both, none, got 'vertical'"),
            ({"rotation": -1.0}, "--rotation must be 0 to 180 degrees, got -1"),
            ({"rotation": 181.0}, "--rotation must be 0 to 180 degrees, got 181"),
            ({"rotation": float("nan")}, "--rotation must be"),
        ],
    )
    def test_a_value_out_of_range_is_refused_with_the_option(self, changes: dict[str, Any], why: str) -> None:
        with pytest.raises(OptionError, match=why):
            Augmentation(**changes)

    def test_the_ends_of_every_range_are_allowed(self) -> None:
        Augmentation(scale=(0.05, 20.0), stretch=4.0, flips="none", rotation=180.0)
        Augmentation(scale=(1.0, 1.0), stretch=1.0, rotation=0.0)

    def test_choices_can_be_read_where_torch_is_not(self) -> None:
        code = "import sys, rtseg.training.options, rtseg.training.loss_options; print('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
