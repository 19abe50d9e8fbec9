"""Labels of a run as one COCO or GeoJSON file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.limited_file import write_until_full

from rtseg.annotations.rle import decode_counts, decode_string
from rtseg.errors import OptionError
from rtseg.frame import Frame
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks import open_sinks
from rtseg.sinks.base import Sink


def _open(path: Path, spec: ModelSpec, option: str) -> Sink:
    (sink,) = open_sinks(spec, **{option: path}, tolerance=0.0)
    assert sink.kind == option
    assert not sink.needs_rendered
    return sink


def test_masks_in_a_json_file_are_run_length_codes(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    sink = _open(tmp_path / "masks.json", spec, "masks")
    sink.write(frame, labels, None)
    sink.write(replace(frame, index=8, name="ä.jpg"), labels, None)
    sink.close()
    read = json.loads((tmp_path / "masks.json").read_text())
    first, second = read["images"]
    assert first == {"id": 1, "file_name": "000007.png", "width": 64, "height": 48, "frame": 7, "pts_s": 0.28}
    assert second["file_name"] == "ä.jpg"
    for entry in read["annotations"]:
        mask = decode_counts(decode_string(entry["segmentation"]["counts"]), labels.shape)
        assert np.array_equal(mask, labels == entry["category_id"] - 1)


def test_polygons_are_coco_or_geojson_by_suffix(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    for name in ("p.json", "p.geojson"):
        sink = _open(tmp_path / name, spec, "polygons")
        sink.write(frame, labels, None)
        sink.close()
    coco, geojson = (json.loads((tmp_path / name).read_text()) for name in ("p.json", "p.geojson"))
    assert [entry["segmentation"] for entry in coco["annotations"]] == [
        [[0, 24, 64, 24, 64, 48, 0, 48]],
        [[0, 12, 64, 12, 64, 24, 0, 24]],
        [[0, 0, 64, 0, 64, 12, 0, 12]],
    ]
    sky = geojson["features"][2]
    assert sky["geometry"]["coordinates"] == [[[0, 0], [64, 0], [64, 12], [0, 12], [0, 0]]]
    assert sky["properties"] == {
        "class": "Sky",
        "class_id": 2,
        "area": 768,
        "image": "000007.png",
        "frame": 7,
        "pts_s": 0.28,
    }


def test_a_geojson_file_is_complete_after_every_frame(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    sink = _open(tmp_path / "p.geojson", spec, "polygons")
    for count in (1, 2, 3):
        sink.write(frame, labels, None)
        assert len(json.loads((tmp_path / "p.part.geojson").read_text())["features"]) == 3 * count
    sink.close()
    assert len(json.loads((tmp_path / "p.geojson").read_text())["features"]) == 9


def test_another_suffix_of_polygons_is_refused(tmp_path: Path, spec: ModelSpec) -> None:
    with pytest.raises(OptionError, match=r"\.geojson, or in \.json for COCO"):
        open_sinks(spec, polygons=tmp_path / "p.txt")


@pytest.mark.parametrize(("name", "entries"), [("p.geojson", "features"), ("p.json", "images")])
def test_a_full_disk_leaves_a_file_that_can_be_read(name: str, entries: str, tmp_path: Path) -> None:
    printed = write_until_full("polygons", tmp_path / name)
    (part,) = tmp_path.iterdir()
    kept = json.loads(part.read_text())[entries]
    assert 1 <= len(kept) < 10
    assert f"{len(kept)} frames are kept in" in printed


def test_a_coco_file_is_complete_at_any_time_but_for_the_newest_frames(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    sink = _open(tmp_path / "masks.json", spec, "masks")
    for count in range(1, 101):
        sink.write(replace(frame, index=count), labels, None)
        read = json.loads((tmp_path / "masks.part.json").read_text())
        images = [image["id"] for image in read["images"]]
        assert 0.6 * count <= len(images) <= count
        assert [entry["image_id"] for entry in read["annotations"]] == [number for number in images for _ in range(3)]
    sink.close()
    assert len(json.loads((tmp_path / "masks.json").read_text())["images"]) == 100
