from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_saving import SaveImage

from rtseg.datasets import open_dataset
from rtseg.datasets.voc import CLASSES, PALETTE
from rtseg.errors import DatasetError, OptionError
from rtseg.model_file.spec import VOID

LABELS = np.array([[0, 1, 20, 255], [5, 5, 15, 0], [255, 255, 0, 12]], np.uint8)


@pytest.fixture
def voc(tmp_path: Path, save: SaveImage, save_palette: SaveImage) -> Path:
    """A VOC of one image."""
    save("VOC2012/JPEGImages/a.jpg")
    save_palette("VOC2012/SegmentationClass/a.png", LABELS)
    lists = tmp_path / "VOC2012" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("\n")
    return tmp_path / "VOC2012"


def test_a_palette_mask_is_read_by_number(voc: Path) -> None:
    dataset = open_dataset(f"voc:{voc}", "train")
    image, labels = dataset.load(0)
    assert (image.dtype, image.shape) == (np.uint8, (3, 4, 3))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, LABELS)
    assert (len(dataset), dataset.name) == (1, "PASCAL VOC 2012 train (1 images)")
    assert dataset.title(0) == str(voc / "JPEGImages" / "a.jpg")


def test_a_mask_whose_palette_repeats_a_colour_is_read_by_number_all_the_same(
    voc: Path, save_palette: SaveImage
) -> None:
    save_palette("VOC2012/SegmentationClass/a.png", LABELS, np.zeros((256, 3), np.uint8))
    np.testing.assert_array_equal(open_dataset(f"voc:{voc}", "train").load(0)[1], LABELS)


def test_a_grey_mask_of_numbers_is_read_as_well(voc: Path, save: SaveImage) -> None:
    save("VOC2012/SegmentationClass/a.png", LABELS)
    np.testing.assert_array_equal(open_dataset(f"voc:{voc}", "train").load(0)[1], LABELS)


@pytest.mark.parametrize("parent", ["VOCdevkit", "."])
def test_a_folder_above_is_understood(tmp_path: Path, voc: Path, parent: str) -> None:
    (tmp_path / parent).mkdir(exist_ok=True)
    voc.rename(tmp_path / parent / "VOC2012")
    assert len(open_dataset(f"voc:{tmp_path}", "train")) == 1


def test_the_colours_are_those_of_the_development_kit() -> None:
    assert len(CLASSES) == len(PALETTE) == 21
    assert PALETTE[:3] == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert PALETTE[CLASSES.index("person")] == (192, 128, 128)
    assert PALETTE[20] == (0, 64, 128)


def test_a_number_above_20_is_refused_with_file_and_value(voc: Path, save_palette: SaveImage) -> None:
    mask = save_palette("VOC2012/SegmentationClass/a.png", np.full((3, 4), 21, np.uint8))
    with pytest.raises(DatasetError, match=rf"^{mask} holds 21 \(12 pixels\), which VOC \(0..20, void 255\) does not"):
        open_dataset(f"voc:{voc}", "train").load(0)


def test_a_mask_of_another_size_is_refused_with_both_sizes(voc: Path, save_palette: SaveImage) -> None:
    save_palette("VOC2012/SegmentationClass/a.png", np.zeros((3, 5), np.uint8))
    with pytest.raises(DatasetError, match=r"a.png is 3x5, its image .*a.jpg 3x4: the sizes must be equal"):
        open_dataset(f"voc:{voc}", "train").load(0)


@pytest.mark.parametrize("gone", ["JPEGImages/a.jpg", "SegmentationClass/a.png"])
def test_a_listed_image_without_file_or_mask_is_named_at_once(voc: Path, gone: str) -> None:
    (voc / gone).unlink()
    with pytest.raises(DatasetError, match=f"^train.txt names a, but there is no {voc / gone}$"):
        open_dataset(f"voc:{voc}", "train")


def test_an_empty_list_is_refused(voc: Path) -> None:
    with pytest.raises(DatasetError, match=r"val.txt names no image"):
        open_dataset(f"voc:{voc}", "val")


def test_a_split_without_a_list_is_refused_with_those_there_are(voc: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read .*test.txt .*; the splits are train, val$"):
        open_dataset(f"voc:{voc}", "test")


def test_a_folder_that_is_no_voc_is_refused_with_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="needs the folder VOC2012 or one above it"):
        open_dataset(f"voc:{tmp_path}", "train")


def test_an_option_is_refused_since_there_are_none(voc: Path) -> None:
    with pytest.raises(OptionError, match=r"there is no option 'val' .*; write voc:FOLDER$"):
        open_dataset(f"voc:{voc},val=0.5", "train")


def test_the_real_thing_agrees_with_pillow_on_every_pixel(shared: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    root = shared / "data" / "voc_mini"
    dataset = open_dataset(f"voc:{root}", "val")
    assert len(dataset) == 40
    assert dataset.classes == tuple((root / "classes.txt").read_text().split())
    for place in (0, 17, 39):
        image, labels = dataset.load(place)
        assert image.shape[:2] == labels.shape
        with pillow.open(root / "VOC2012" / "SegmentationClass" / f"{Path(dataset.title(place)).stem}.png") as mask:
            np.testing.assert_array_equal(labels, np.asarray(mask))
        assert VOID in labels
