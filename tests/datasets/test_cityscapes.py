from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_saving import SaveImage

from rtseg.datasets import open_dataset
from rtseg.datasets.cityscapes import CLASSES, PALETTE
from rtseg.errors import DatasetError
from rtseg.model_file.spec import VOID
from rtseg.system.opencv import cv2

IMAGE = "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png"
TRAIN_IDS = "gtFine/val/ulm/ulm_000000_000019_gtFine_labelTrainIds.png"
IDS = "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png"


def test_training_ids_are_taken_as_they_are(tmp_path: Path, save: SaveImage) -> None:
    stored = np.array([[0, 1, 2, 3], [17, 18, 255, 255], [10, 11, 12, 13]], np.uint8)
    save(IMAGE)
    save(TRAIN_IDS, stored)
    save(IDS, np.full((3, 4), 7, np.uint8))
    dataset = open_dataset(f"cityscapes:{tmp_path}", "val")
    np.testing.assert_array_equal(dataset.load(0)[1], stored)
    assert (len(dataset), dataset.name, len(CLASSES)) == (1, "Cityscapes val (1 images)", 19)
    assert (dataset.classes, dataset.palette) == (CLASSES, PALETTE)
    assert "non-commercial" in dataset.licence


def test_ids_are_mapped_where_there_are_no_training_ids(tmp_path: Path, save: SaveImage) -> None:
    save(IMAGE)
    save(IDS, np.array([[7, 8, 11, 12], [0, 6, 9, 30], [33, 31, 26, 23]], np.uint8))
    labels = open_dataset(f"cityscapes:{tmp_path}", "val").load(0)[1]
    np.testing.assert_array_equal(labels, [[0, 1, 2, 3], [VOID] * 4, [18, 16, 13, 10]])


@pytest.mark.parametrize(("name", "value"), [(TRAIN_IDS, 19), (IDS, 34)])
def test_an_id_that_cityscapes_has_not_is_refused(tmp_path: Path, save: SaveImage, name: str, value: int) -> None:
    save(IMAGE)
    save(name, np.full((3, 4), value, np.uint8))
    with pytest.raises(DatasetError, match=rf"{Path(name).name} holds {value} \(12 pixels\), which Cityscapes"):
        open_dataset(f"cityscapes:{tmp_path}", "val").load(0)


@pytest.mark.parametrize(("there", "message"), [(IMAGE, "has no mask"), (TRAIN_IDS, "has no image")])
def test_a_file_without_partner_is_named_at_once(tmp_path: Path, save: SaveImage, there: str, message: str) -> None:
    for folder in ("leftImg8bit/val", "gtFine/val"):
        (tmp_path / folder).mkdir(parents=True)
    save(there, np.zeros((3, 4), np.uint8))
    with pytest.raises(DatasetError, match=f"{Path(there).name} {message}"):
        open_dataset(f"cityscapes:{tmp_path}", "val")


def test_a_missing_split_is_refused_with_those_there_are(tmp_path: Path, save: SaveImage) -> None:
    save(IMAGE)
    save(TRAIN_IDS, np.zeros((3, 4), np.uint8))
    with pytest.raises(DatasetError, match=r"no .*leftImg8bit/train: .*existing splits: val$"):
        open_dataset(f"cityscapes:{tmp_path}", "train")


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    for folder in ("leftImg8bit/val", "gtFine/val"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"contains no image CITY/\*_leftImg8bit.png"):
        open_dataset(f"cityscapes:{tmp_path}", "val")


def test_the_two_masks_of_the_fixture_say_the_same_but_at_edges_where_each_was_scaled(
    shared: Path, tmp_path: Path
) -> None:
    root = shared / "data" / "fixtures" / "mmseg" / "pseudo_cityscapes_dataset"
    truth = open_dataset(f"cityscapes:{root}", "val").load(0)[1]
    name = "frankfurt_000000_000294"
    for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        target = tmp_path / folder / "val" / "frankfurt"
        target.mkdir(parents=True)
        source = root / folder / "val" / "frankfurt" / f"{name}_{ending}.png"
        (target / source.name).write_bytes(source.read_bytes())
    mapped = open_dataset(f"cityscapes:{tmp_path}", "val").load(0)[1]
    assert (mapped != truth).mean() < 0.003
    stored = cv2.imread(str(root / "gtFine/val/frankfurt" / f"{name}_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
    assert (mapped[stored == 26] == CLASSES.index("car")).all()
    assert (stored == 26).any()


def test_the_fixture_of_another_tool_whose_19_is_no_class_is_refused(shared: Path) -> None:
    root = shared / "data" / "fixtures" / "datumaro" / "cityscapes_dataset" / "train_dataset"
    with pytest.raises(DatasetError, match=r"holds 19 \(4 pixels\)"):
        open_dataset(f"cityscapes:{root}", "train").load(0)
