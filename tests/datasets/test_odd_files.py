"""Data sets whose files are odd but usable: EXIF tags, Unicode forms, names that are not UTF-8, absent classes."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.boxes import Box, read_boxes
from rtseg.datasets.check import check_data
from rtseg.datasets.mask_files import read_mask
from rtseg.errors import DatasetError, OptionError
from rtseg.metrics.confusion import absent_classes

LABELS = np.array([[0, 1, 2, 2], [0, 1, 1, 2], [0, 0, 1, 1]], np.uint8)
"""No two orientations of it are equal."""
ORIENTATION = 0x0112


def save(path: Path, pixels: NDArray[np.generic], orientation: int, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = PIL.Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([value for index in range(3) for value in (100 * index,) * 3])
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"tiffinfo": exif} if path.suffix == ".tif" else {"exif": exif}
    image.save(path, **options, **({"lossless": True} if path.suffix == ".webp" else {}))


def open_pairs(folder: Path, options: str = "classes=a+b+c,val=0") -> Dataset:
    return open_dataset(f"pairs:{folder}/images,{folder}/masks,{options}", "train")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_rotated_like_its_image(suffix: str, mode: str, orientation: int, tmp_path: Path) -> None:
    if mode == "P" and suffix != ".png":
        pytest.skip("a WebP has no palette, and the palette of a TIFF is read as colours")
    save(tmp_path / "images" / "a.png", (LABELS * 100)[..., None].repeat(3, axis=2), orientation)
    pixels = LABELS[..., None].repeat(3, axis=2) if mode == "RGB" else LABELS
    save(tmp_path / "masks" / f"a{suffix}", pixels, orientation, mode)
    dataset = open_pairs(tmp_path)
    image, labels = dataset.load(0)
    np.testing.assert_array_equal(labels * 100, image[..., 0])
    assert dataset.notes.lines == []


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_mask_without_the_tag_of_its_image_is_a_problem(orientation: int, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", (LABELS * 100)[..., None].repeat(3, axis=2), orientation)
    save(tmp_path / "masks" / "a.png", LABELS, 1)
    problems = check_data(f"pairs:{tmp_path}/images,{tmp_path}/masks,classes=a+b+c,val=0", ["train"]).problems
    assert problems == (
        f"{tmp_path}/masks/a.png: the EXIF orientation of image and mask differ: "
        "save both upright and without this tag",
    )


def test_a_mask_file_with_several_images_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", LABELS, 1)
    (tmp_path / "masks").mkdir()
    page = PIL.Image.fromarray(LABELS)
    page.save(tmp_path / "masks" / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(DatasetError, match="contains 2 images: save each mask in a file of its own"):
        open_pairs(tmp_path).load(0)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_a_tiff_with_a_palette_holds_numbers_and_colours(compression: str | None, tmp_path: Path) -> None:
    image = PIL.Image.fromarray(LABELS)
    image.putpalette([0, 0, 0, 9, 8, 7, 100, 50, 25])
    image.save(tmp_path / "a.tif", compression=compression)
    mask = read_mask(tmp_path / "a.tif")
    assert mask.numbers is not None
    assert mask.palette is not None
    assert np.array_equal(mask.numbers, LABELS)
    assert mask.palette[:3].tolist() == [0, 0x090807, 0x643219]


@pytest.mark.parametrize("folder", ["images", "masks"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_device_is_refused(folder: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    for each in ("images", "masks"):
        save(tmp_path / each / "a.png", LABELS, 1)
    (tmp_path / folder / "a.png").unlink()
    make(tmp_path / folder / "a.png")
    with pytest.raises(DatasetError):
        open_pairs(tmp_path).load(0)


@pytest.mark.parametrize("text", ["pairs:a\0b,c,classes=a", "voc:\0", "camvid:\ud800"])
def test_a_text_that_no_file_can_have_as_its_name_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="a character that no file name can have"):
        open_dataset(text, "train")


def test_a_text_with_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        open_dataset(f"pairs:*{'a' * 300},masks,classes=a", "train")


def test_separators_around_the_numbers_of_a_box_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,x,y,width,height\na.png,1,2,3,4\x1e\n")
    assert read_boxes(tmp_path / "boxes.csv")["a.png"].boxes == (Box(1, 2, 3, 4),)


def test_names_match_in_either_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "ü") for form in ("NFC", "NFD"))
    save(tmp_path / "images" / f"{composed}.png", LABELS, 1)
    save(tmp_path / "masks" / f"{decomposed}.png", LABELS, 1)
    assert len(open_pairs(tmp_path)) == 1
    (tmp_path / "train.txt").write_text(f"{decomposed}.png\n", encoding="utf-8-sig")
    assert len(open_pairs(tmp_path, f"classes=a+b+c,lists={tmp_path}")) == 1


def test_names_that_are_not_utf8_are_split_like_others(tmp_path: Path) -> None:
    for name in ("a.png", os.fsdecode(b"caf\xe9.png")):
        save(tmp_path / "images" / name, LABELS, 1)
        save(tmp_path / "masks" / name, LABELS, 1)
    text = f"pairs:{tmp_path}/images,{tmp_path}/masks,classes=a+b+c,val=0.5"
    assert [len(open_dataset(text, split)) for split in ("train", "val")] == [1, 1]


def test_bits_of_images_are_an_option_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    PIL.Image.fromarray(LABELS.astype(np.uint16) * 2000).save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png", LABELS, 1)
    dataset = open_pairs(tmp_path)
    dataset.load(0)
    assert "use --data ..,bits=12" in dataset.notes.lines[0]
    image, _ = open_pairs(tmp_path, "classes=a+b+c,val=0,bits=12").load(0)
    np.testing.assert_array_equal(image[..., 0], LABELS.astype(int) * 125)


def test_skipped_files_are_a_problem_of_the_check(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", LABELS, 1)
    save(tmp_path / "masks" / "a.png", LABELS, 1)
    (tmp_path / "images" / "b.gif").touch()
    problems = check_data(f"pairs:{tmp_path}/images,{tmp_path}/masks,classes=a+b+c,val=0", ["train"]).problems
    assert problems == ("skipped 1 files (b.gif): not a supported format",)


def test_classes_without_a_pixel_are_named() -> None:
    assert absent_classes(np.array([5, 0, 0]), ("a", "b", "c"), "x") == "no pixel of x has the class b (1), c (2)"
    assert absent_classes(np.array([5, 1]), ("a", "b"), "x") == ""
