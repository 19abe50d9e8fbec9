from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.datasets import Dataset, open_dataset
from rtseg.errors import OptionError
from rtseg.synthetic.street import Street


def same(one: Dataset, other: Dataset, index: int, epochs: tuple[int, int] = (0, 0)) -> bool:
    first, second = one.load(index, epochs[0]), other.load(index, epochs[1])
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def street(split: str = "train", frames: int = 3) -> Dataset:
    return open_dataset(f"synthetic:street,frames={frames}", split)


def test_an_image_has_a_class_of_camvid_for_every_pixel() -> None:
    dataset = street()
    image, labels = dataset.load(0)
    assert (image.dtype, image.shape) == (np.uint8, (360, 600, 3))
    assert (labels.dtype, labels.shape) == (np.uint8, (360, 600))
    assert labels.max() < len(CLASSES)
    assert len(np.unique(labels)) > 4
    assert (dataset.classes, dataset.palette) == (CLASSES, PALETTE)


def test_it_has_the_facts_for_a_model_card() -> None:
    dataset = street(frames=3)
    assert len(dataset) == 3
    assert dataset.name == "synthetic street train (3 frames)"
    assert "no restriction" in dataset.licence


def test_the_same_place_of_the_same_epoch_is_the_same_image_in_every_process() -> None:
    assert same(street(), street(), 1)
    assert same(street(), street(), 1, (4, 4))


def test_every_place_every_epoch_and_every_split_shows_another_street() -> None:
    train = street()
    assert not np.array_equal(train.load(0)[0], train.load(1)[0])
    assert not same(train, train, 0, (0, 1))
    assert not same(train, street("val"), 0)
    assert not same(street("val"), street("test"), 0)


def test_the_frames_of_two_epochs_do_not_overlap() -> None:
    train = street(frames=3)
    first = [train.load(index)[0] for index in range(3)]
    second = [train.load(index, 1)[0] for index in range(3)]
    assert not any(np.array_equal(a, b) for a in first for b in second)


def test_the_street_of_the_demo_is_in_no_split() -> None:
    demo = Street((360, 600), seed=0).render(1.0)[0]
    assert not any(np.array_equal(street(split).load(0)[0], demo) for split in ("train", "val", "test"))


class TestClips:
    def test_a_clip_ends_with_the_image_itself(self) -> None:
        dataset = street()
        clip = dataset.clip(1, 4, 3)
        assert len(clip) == 3
        for got, wanted in zip(clip[-1], dataset.load(1, 4), strict=True):
            np.testing.assert_array_equal(got, wanted)

    def test_it_shows_one_street_at_ten_moments_a_second(self) -> None:
        seed, now_s = 1_000_001, float(np.random.default_rng(1_000_001).uniform(0, 600))
        drive = Street((360, 600), seed=seed)
        for back, (image, labels) in enumerate(reversed(street().clip(1, 0, 3))):
            wanted = drive.render(now_s - back / 10)
            np.testing.assert_array_equal(image, wanted[0])
            np.testing.assert_array_equal(labels, wanted[1])

    def test_its_images_differ_and_belong_together(self) -> None:
        (first, _), (second, _), (third, _) = street().clip(0, 0, 3)
        stranger = street().load(1)[0]

        def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
            return float(np.abs(one.astype(int) - other).mean())

        assert 0 < difference(second, third) < 0.5 * difference(stranger, third)
        assert 0 < difference(first, second) < 0.5 * difference(stranger, third)

    def test_before_the_drive_starts_the_first_frame_is_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rtseg.datasets.synthetic._STREET_LENGTH_S", 0.15)
        images = [image for image, _ in street(frames=1).clip(0, 0, 4)]
        np.testing.assert_array_equal(images[0], images[1])
        assert not np.array_equal(images[-2], images[-1])

    def test_no_image_belongs_to_a_video(self) -> None:
        assert street().sequence(1) is None


def test_without_a_number_there_are_forty_frames() -> None:
    assert len(open_dataset("synthetic:street", "val")) == 40


@pytest.mark.parametrize(
    "argument",
    ["town", "street,frames=0", "street,frames=-1", "street,frames=many", "street,frames=", "street,frames=²"],
)
def test_a_malformed_text_is_refused(argument: str) -> None:
    with pytest.raises(OptionError, match="--data"):
        open_dataset(f"synthetic:{argument}", "train")


def test_an_unknown_split_is_refused_with_those_there_are() -> None:
    with pytest.raises(OptionError, match="splits train, val, test; got 'dev'"):
        street("dev")
