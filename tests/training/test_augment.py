from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rtseg.datasets import Dataset
from rtseg.spec import VOID
from rtseg.training.augment import RandomViews

CROP = (64, 96)
DARK, BRIGHT = 40, 150


class Corner(Dataset):
    """A dark picture with two bright corners, of class 1, in yellow. No view of it is like its mirror."""

    name = "corner"
    classes = ("dark", "bright")
    palette = ((0, 0, 0), (255, 255, 255))
    licence = "none"

    def __init__(self, length: int = 40) -> None:
        self.length = length
        self.loaded: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self.length

    def load(self, index: int, epoch: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        self.loaded.append((index, epoch))
        labels = np.zeros((120, 160), np.uint8)
        labels[:70, :60] = 1
        labels[100:, 140:] = 1
        picture = np.where(labels, BRIGHT, DARK).astype(np.uint8)[..., None].repeat(3, 2)
        picture[..., 0] = 0  # blue, in the order of OpenCV
        return picture, labels


@pytest.fixture(scope="module")
def views() -> list[tuple[torch.Tensor, torch.Tensor]]:
    dataset = RandomViews([Corner()], CROP, seed=0)
    return [dataset[place] for place in range(len(dataset))]


def test_a_view_is_a_picture_and_labels_of_the_crops_size(views: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for picture, labels in views:
        assert (type(picture), picture.dtype, picture.shape) == (torch.Tensor, torch.uint8, (3, *CROP))
        assert (type(labels), labels.dtype, labels.shape) == (torch.Tensor, torch.int64, CROP)


def test_picture_and_labels_move_together(views: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    both = 0
    for picture, labels in views:
        light = picture.float().amax(0)
        if not (labels == 0).any() or not (labels == 1).any():
            continue
        both += 1
        middle = (light[labels == 0].median() + light[labels == 1].median()) / 2
        known = labels != VOID
        right = (light[known] > middle) == (labels[known] == 1)
        assert right.float().mean() > 0.95  # but for the blurred edge
    assert both > 20, "views with one class prove nothing"


def test_labels_are_never_mixed(views: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    assert {int(value) for _, labels in views for value in labels.unique()} == {0, 1, VOID}


def test_what_zooming_out_uncovers_is_void_and_of_one_colour(views: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    uncovered = [(picture, labels == VOID) for picture, labels in views if (labels == VOID).float().mean() > 0.05]
    assert 1 <= len(uncovered) < len(views) / 2
    for picture, void in uncovered:
        values = picture.float().mean(0)[void]
        assert (values - values.median()).abs().quantile(0.8) < 6


def test_pictures_come_as_rgb(views: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    means = torch.stack([picture.float().mean((1, 2)) for picture, _ in views])
    assert (means[:, 0] > means[:, 2]).float().mean() > 0.8  # but for the grey ones
    assert means[:, 2].median() < 0.5 * means[:, 0].median()


def test_views_differ_in_mirroring_scale_and_brightness(views: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    left = [bool((labels[:, :48] == 1).sum() > (labels[:, 48:] == 1).sum()) for _, labels in views]
    assert 0.2 < np.mean(left) < 0.8
    shares = [float((labels == 1).float().mean()) for _, labels in views]
    assert max(shares) - min(shares) > 0.3
    lights = [float(picture[0][labels == 1].float().median()) for picture, labels in views if (labels == 1).any()]
    assert max(lights) > 1.3 * min(lights)


class TestDeterminism:
    def same(self, one: RandomViews, other: RandomViews, place: int = 3) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one[place], other[place], strict=True))

    def views(self, *, seed: int = 0, epoch: int = 0) -> RandomViews:
        made = RandomViews([Corner()], CROP, seed=seed)
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


def test_several_data_sets_follow_each_other_and_are_told_the_epoch() -> None:
    first, second = Corner(2), Corner(3)
    views = RandomViews([first, second], CROP, seed=0)
    views.epoch = 5
    assert len(views) == 5
    for place in range(5):
        views[place]
    assert first.loaded == [(0, 5), (1, 5)]
    assert second.loaded == [(0, 5), (1, 5), (2, 5)]
