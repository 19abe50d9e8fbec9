from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from helpers.label_maps import CLASSES, PALETTE, random_labels

from rtseg.annotations.coco import CocoDocument
from rtseg.annotations.geojson import GeoJsonDocument
from rtseg.annotations.outlines import fill_rings
from rtseg.annotations.rle import decode_counts, decode_string

IMAGES = [random_labels(seed) for seed in range(3)] + [np.full((4, 5), 255, np.uint8)]


def _read(document: CocoDocument | GeoJsonDocument) -> dict[str, Any]:
    parts = [document.add(f"{number}.png", labels, {"pts_s": 0.5}) for number, labels in enumerate(IMAGES)]
    read: dict[str, Any] = json.loads(b"".join((document.begin(), *parts, document.end())))
    return read


@pytest.mark.parametrize("polygons", [False, True])
def test_a_coco_file_holds_every_pixel(polygons: bool) -> None:
    read = _read(CocoDocument(CLASSES, PALETTE, polygons=polygons))
    assert [entry["name"] for entry in read["categories"]] == list(CLASSES)
    assert [entry["id"] for entry in read["annotations"]] == list(range(1, 1 + len(read["annotations"])))
    for image, labels in zip(read["images"], IMAGES, strict=True):
        assert (image["height"], image["width"], image["pts_s"]) == (*labels.shape, 0.5)
        painted = np.full_like(labels, 255)
        for entry in read["annotations"]:
            if entry["image_id"] == image["id"]:
                painted[_mask(entry["segmentation"], labels.shape)] = entry["category_id"] - 1
        assert np.array_equal(painted, labels)


def _mask(segmentation: Any, size: tuple[int, ...]) -> np.ndarray:
    if isinstance(segmentation, dict):
        assert segmentation["size"] == list(size)
        return decode_counts(decode_string(segmentation["counts"]), (size[0], size[1]))
    (line,) = segmentation
    return fill_rings([np.array(line, float).reshape(-1, 2)], (size[0], size[1]))


def test_a_geojson_file_holds_every_pixel_with_holes_as_rings() -> None:
    features = _read(GeoJsonDocument(CLASSES))["features"]
    for number, labels in enumerate(IMAGES):
        painted = np.full_like(labels, 255)
        for feature in features:
            if feature["properties"]["image"] == f"{number}.png":
                rings = [np.array(ring, float) for ring in feature["geometry"]["coordinates"]]
                assert all((ring[0] == ring[-1]).all() for ring in rings)
                painted[fill_rings(rings, labels.shape)] = CLASSES.index(feature["properties"]["class"])
        assert np.array_equal(painted, labels)
    assert features[0]["properties"]["pts_s"] == 0.5


def test_a_file_name_that_is_no_unicode_survives_as_json() -> None:
    document = CocoDocument(CLASSES, PALETTE)
    name = b"\xff.png".decode(errors="surrogateescape")
    text = document.begin() + document.add(name, np.zeros((2, 2), np.uint8)) + document.end()
    assert json.loads(text)["images"][0]["file_name"] == name


def test_a_document_without_images_is_valid() -> None:
    for document in (CocoDocument(CLASSES, PALETTE), GeoJsonDocument(CLASSES)):
        assert json.loads(document.begin() + document.end())
