from __future__ import annotations

import numpy as np
import pytest

from rtseg.datasets import open_dataset
from rtseg.errors import OptionError
from rtseg.frame import Image, Labels
from rtseg.synthetic.fringes import CLASSES, PALETTE, draw_interferogram

SMALL = "synthetic:fringes,size=384x384,frames=4"


def load(text: str = SMALL, split: str = "train", index: int = 0, epoch: int = 0) -> tuple[Image, Labels]:
    return open_dataset(text, split).load(index, epoch)


def test_an_image_is_grey_as_bgr_with_a_class_for_every_pixel() -> None:
    image, labels = load("synthetic:fringes,size=256x320")
    assert (image.dtype, image.shape) == (np.uint8, (256, 320, 3))
    assert (labels.dtype, labels.shape) == (np.uint8, (256, 320))
    assert (image[..., :1] == image).all()
    assert labels.max() < len(CLASSES) == len(PALETTE)


def test_it_has_the_facts_for_a_model_card() -> None:
    dataset = open_dataset("synthetic:fringes", "val")
    assert (len(dataset), dataset.name) == (40, "synthetic fringes val (40 frames of 3072x3072)")
    assert (dataset.classes, dataset.palette) == (CLASSES, PALETTE)
    assert "no restriction" in dataset.licence


def test_the_same_place_of_the_same_epoch_is_the_same_image() -> None:
    for one, other in zip(load(index=2, epoch=3), load(index=2, epoch=3), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "other",
    [{"index": 1}, {"epoch": 1}, {"split": "val"}, {"split": "test"}, {"text": f"{SMALL},seed=1"}],
    ids=["place", "epoch", "val", "test", "seed"],
)
def test_every_place_epoch_split_and_seed_shows_another_surface(other: dict[str, object]) -> None:
    assert (load()[0] != load(**other)[0]).mean() > 0.5  # type: ignore[arg-type]


def test_every_class_occurs_and_defects_are_rare() -> None:
    counts = np.zeros(len(CLASSES), np.int64)
    for index in range(4):
        counts += np.bincount(load(index=index)[1].ravel(), minlength=len(CLASSES))
    shares = counts / counts.sum()
    assert (shares > 0).all()
    assert shares[2:].sum() < 0.1
    assert shares[CLASSES.index("Fringes")] > 0.4


def test_outside_of_the_surface_it_is_dark_and_the_fringes_are_bright_and_dark() -> None:
    for seed in range(10):
        grey, labels = draw_interferogram((384, 384), (seed,))
        outside, fringes = grey[labels == 0], grey[labels == CLASSES.index("Fringes")]
        assert fringes.std() > 15
        if outside.size:
            assert np.median(outside) < 20 < np.median(fringes)


def test_digs_and_dust_are_darker_than_the_surface_around_them() -> None:
    ratios = []
    for seed in range(10):
        grey, labels = draw_interferogram((512, 512), (seed,))
        fringes = grey[labels == CLASSES.index("Fringes")].mean()
        ratios += [grey[labels == CLASSES.index(name)].mean() / fringes for name in ("Dig", "Dust")]
    assert np.mean(ratios) < 0.7


def test_fringes_are_periodic() -> None:
    grey, labels = draw_interferogram((512, 512), (3,))
    inside = np.where(labels == 0, 0.0, grey - grey[labels != 0].mean())
    spectrum = np.abs(np.fft.rfft2(inside))
    spectrum[:3, :3] = spectrum[-2:, :3] = 0
    strongest = np.sort(spectrum.ravel())[-200:]
    assert strongest.sum() > 0.15 * spectrum.sum(), "a few frequencies carry the image"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("fringes,frames=0", "frames must be an integer of at least 1, got '0'"),
        ("fringes,seed=-1", "seed must be an integer of at least 0, got '-1'"),
        ("fringes,size=512", "size must be HEIGHTxWIDTH, each 128 to 8192, got '512'"),
        ("fringes,size=64x512", "size must be HEIGHTxWIDTH, each 128 to 8192"),
        ("fringes,size=512x9000", "size must be HEIGHTxWIDTH, each 128 to 8192"),
        ("fringes,colour=red", "there is no option 'colour'"),
        ("fringes,street", "must be given, got 'fringes', 'street'"),
        ("fringe", "KIND one of .*synthetic:fringes, synthetic:street"),
    ],
)
def test_a_malformed_text_is_refused(argument: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        open_dataset(f"synthetic:{argument}", "train")


def test_an_unknown_split_is_refused_with_those_there_are() -> None:
    with pytest.raises(OptionError, match="splits train, val, test; got 'dev'"):
        open_dataset(SMALL, "dev")
