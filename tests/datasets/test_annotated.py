"""Annotations of other tools as labelled images."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.label_maps import CLASSES, PALETTE, random_labels

from rtseg.annotations.coco import CocoDocument
from rtseg.annotations.cvat import CvatDocument
from rtseg.annotations.labelme import labelme_file
from rtseg.datasets import open_dataset
from rtseg.errors import DatasetError, OptionError
from rtseg.frame import Labels

NAMES = [f"bild ä{number}.png" for number in range(6)]
LABELS = {name: random_labels(seed) for seed, name in enumerate(NAMES)}
SQUARE = [[2, 1], [6, 1], [6, 5], [2, 5]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, labels in LABELS.items():
        cv2.imwrite(str(tmp_path / name), np.dstack([labels] * 3))
    return tmp_path


def _document(document: CocoDocument | CvatDocument) -> bytes:
    return b"".join((document.begin(), *(document.add(*item) for item in LABELS.items()), document.end()))


def _write_coco(folder: Path) -> str:
    (folder / "a.json").write_bytes(_document(CocoDocument(CLASSES, PALETTE, polygons=True)))
    return f"coco:{folder}/a.json"


def _write_codes(folder: Path) -> str:
    (folder / "a.json").write_bytes(_document(CocoDocument(CLASSES, PALETTE)))
    return f"coco:{folder}/a.json"


def _write_cvat(folder: Path) -> str:
    (folder / "a.xml").write_bytes(_document(CvatDocument(CLASSES, PALETTE)))
    return f"cvat:{folder}/a.xml"


def _write_labelme(folder: Path) -> str:
    (folder / "json").mkdir()
    for name, labels in LABELS.items():
        (folder / "json" / f"{Path(name).stem}.json").write_bytes(labelme_file(f"../{name}", labels, CLASSES))
    return f"labelme:{folder}/json,classes={'+'.join(CLASSES)}"


@pytest.mark.parametrize("write", [_write_coco, _write_codes, _write_cvat, _write_labelme])
def test_what_rtseg_writes_returns_every_pixel(write: Callable[[Path], str], folder: Path) -> None:
    dataset = open_dataset(f"{write(folder)},val=1", "val")
    assert dataset.classes == CLASSES
    assert len(dataset) == len(LABELS)
    for index in range(len(dataset)):
        image, labels = dataset.load(index)
        expected = LABELS[Path(dataset.title(index)).name]
        assert np.array_equal(labels, expected)
        assert image.shape == (*expected.shape, 3)
    if write is not _write_labelme:
        assert dataset.palette == PALETTE


def _one(folder: Path, kind: str, shapes: Any) -> Callable[[str], Labels]:
    """Write annotations of one 8x10 image; return a function that loads its labels with options of ``--data``."""
    cv2.imwrite(str(folder / "b.png"), np.zeros((8, 10, 3), np.uint8))
    if kind == "coco":
        image = {"id": 9, "file_name": "some/where/b.png", "height": 8, "width": 10}
        facts = {"images": [image], "categories": [{"id": 7, "name": "b"}, {"id": 3, "name": "a"}]}
        entries = [{"id": number, "image_id": 9, **shape} for number, shape in enumerate(shapes)]
        (folder / "one.json").write_text(json.dumps(facts | {"annotations": entries}))
        text = f"coco:{folder}/one.json"
    elif kind == "cvat":
        head = '<annotations><version>1.1</version><image id="0" name="b.png" width="10" height="8">'
        (folder / "one.xml").write_text(f'<?xml version="1.0"?>{head}{shapes}</image></annotations>')
        text = f"cvat:{folder}/one.xml"
    else:
        (folder / "one").mkdir(exist_ok=True)
        facts = {"imagePath": "..\\b.png", "imageHeight": 8, "imageWidth": 10, "shapes": shapes}
        (folder / "one" / "b.json").write_text(json.dumps(facts))
        text = f"labelme:{folder}/one"

    def load(options: str = "") -> Labels:
        return open_dataset(f"{text},val=1{options}", "val").load(0)[1]

    return load


def test_a_foreign_coco_file_with_both_kinds_of_codes_and_a_background(tmp_path: Path) -> None:
    load = _one(
        tmp_path,
        "coco",
        [
            {"category_id": 7, "segmentation": [np.ravel(SQUARE).tolist(), [8, 6, 10, 6, 10, 8, 8, 8]]},
            {"category_id": 3, "iscrowd": 1, "segmentation": {"size": [8, 10], "counts": [0, 3, 77]}},
        ],
    )
    expected = np.full((8, 10), 255, np.uint8)
    expected[1:5, 2:6] = expected[6:8, 8:10] = 1  # b comes after a: its category ID is larger
    expected[0:3, 0] = 0
    assert np.array_equal(load(), expected)
    with_background = np.select([expected == 0, expected == 1], [1, 2], 0)
    assert np.array_equal(load(",background=rest"), with_background)
    assert np.array_equal(load(",background=rest,classes=rest+b"), np.where(expected == 1, 1, 0))


def test_boxes_and_the_order_of_cvat(tmp_path: Path) -> None:
    load = _one(
        tmp_path,
        "cvat",
        '<box label="top" xtl="0" ytl="0" xbr="4.0" ybr="8" z_order="1"/>'
        '<polygon label="below" points="2,1;6,1;6,5;2,5" z_order="0"/>'
        '<points label="p" points="1,1"/>',
    )
    labels = load(",classes=top+below")
    assert (labels[:, :4] == 0).all()
    assert (labels[1:5, 4:6] == 1).all()
    assert (labels == 255).sum() == 80 - 32 - 8


def test_all_shapes_of_labelme(tmp_path: Path) -> None:
    png = base64.b64encode(cv2.imencode(".png", np.array([[255, 0], [0, 255]], np.uint8))[1].tobytes()).decode()
    load = _one(
        tmp_path,
        "labelme",
        [
            {"label": "a", "points": SQUARE, "shape_type": "polygon"},
            {"label": "b", "points": [[6, 5], [5, 4]], "shape_type": "rectangle"},
            {"label": "c", "points": [[8, 2], [8, 0.6]], "shape_type": "circle"},
            {"label": "d", "points": [[0, 6], [1, 7]], "shape_type": "mask", "mask": png},
            {"label": "e", "points": [[0, 6]], "shape_type": "point"},
        ],
    )
    labels = load()
    assert (labels[1:5, 2:5] == 0).all()
    assert labels[4, 5] == 1
    assert (labels[1:3, 7:9] == 2).all()
    assert labels[6, 0] == labels[7, 1] == 3
    assert labels[6, 1] == 255


@pytest.mark.parametrize(
    ("kind", "shapes", "match"),
    [
        ("coco", [{"category_id": 7, "segmentation": {"counts": [3]}}], "do not fill 8x10"),
        ("coco", [{"category_id": 1, "segmentation": []}], "is not a COCO file"),
        ("coco", [{"category_id": 7, "segmentation": [[1, 2, 1e9, 4, 5, 6]]}], "not near the image"),
        ("coco", [{"category_id": 7, "segmentation": [[1, 2, 3]]}], "is not a COCO file"),
        ("cvat", '<mask label="a" rle="0, 4" left="9" top="0" width="2" height="2"/>', "beyond the image"),
        ("cvat", '<mask label="a" rle="0, 9" left="0" top="0" width="2" height="2"/>', "do not fill 2x2"),
        ("cvat", '<polygon label="a"/>', "is not valid"),
        ("cvat", "<polygon", "cannot read"),
        ("labelme", [{"label": "a", "points": [[1, 2]], "shape_type": "mask"}], "is not a file of LabelMe"),
        ("labelme", 7, "is not a file of LabelMe"),
    ],
)
def test_damaged_annotations_are_named(tmp_path: Path, kind: str, shapes: Any, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        _one(tmp_path, kind, shapes)("")


def test_entities_of_xml_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text('<!DOCTYPE a [<!ENTITY b "bbbb">]><annotations><image/></annotations>')
    with pytest.raises(DatasetError, match="XML entities"):
        open_dataset(f"cvat:{tmp_path}/one.xml", "val")


def test_a_missing_image_and_another_size_are_named(folder: Path) -> None:
    text = f"{_write_coco(folder)},val=1"
    cv2.imwrite(str(folder / NAMES[0]), np.zeros((99, 9, 3), np.uint8))
    with pytest.raises(DatasetError, match="is 99x9, but"):
        open_dataset(text, "val").load(0)
    (folder / NAMES[0]).unlink()
    with pytest.raises(DatasetError, match=f"names {NAMES[0]}, which is not in"):
        open_dataset(text, "val")
    assert len(open_dataset(text, "val", strict=False)) == len(NAMES) - 1


def test_unknown_classes_and_files_are_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="has no class 'Tree'; it has Road, Car, Sky"):
        open_dataset(f"{_write_coco(folder)},classes=Tree", "val")
    with pytest.raises(DatasetError, match=r"cannot read .*No such file"):
        open_dataset("coco:missing.json", "val")
    with pytest.raises(DatasetError, match=r"contains no \.json file"):
        open_dataset(f"labelme:{folder}/missing", "val")
    with pytest.raises(OptionError, match=r"write coco:FILE.json\[,images=..\]"):
        open_dataset("coco:a,b", "val")
