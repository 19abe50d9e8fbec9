"""``rtseg predict --format``: annotations that other tools open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from rtseg.annotations.outlines import fill_rings
from rtseg.cli import main
from rtseg.datasets import open_dataset
from rtseg.datasets.mask_files import read_mask

FILES = {
    "coco": ["annotations.json"],
    "cvat": ["annotations.xml"],
    "labelme": ["labelme/a.json", "labelme/b.json"],
    "voc": [
        "ImageSets/Segmentation/default.txt",
        "SegmentationClass/a.png",
        "SegmentationClass/b.png",
        "labelmap.txt",
    ],
    "yolo": ["data.yaml", "labels/a.txt", "labels/b.txt"],
}


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_frames: np.ndarray) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    Path("in").mkdir()
    for name, image in zip(("a.png", "b.jpg"), real_frames, strict=False):
        cv2.imwrite(f"in/{name}", image[::4, ::4])
    return Path("in")


def _predict(model: Path, *options: str) -> int:
    return main(["predict", "in", "-m", str(model), "-o", "out", "--tolerance", "0", *options])


def _written() -> list[str]:
    return sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", FILES)
def test_annotations_are_the_only_result_and_are_not_replaced(
    kind: str, icnet_file: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _predict(icnet_file, "--format", kind, "--report", "r.json") == 0
    assert _written() == FILES[kind]
    assert f"wrote {kind} annotations of 2 images into out" in capsys.readouterr().out
    assert json.loads(Path("r.json").read_text())["images"][0]["files"][kind] in FILES[kind]
    assert _predict(icnet_file, "--format", kind) == 2
    assert "already exist" in capsys.readouterr().err
    assert _predict(icnet_file, "--format", kind, "--overwrite") == 0


@pytest.mark.parametrize(
    "data", ["coco:out/annotations.json,images=in", "cvat:out/annotations.xml,images=in", "labelme:out/labelme"]
)
def test_they_return_every_pixel_of_the_masks(data: str, icnet_file: Path, images: Path) -> None:
    assert _predict(icnet_file, "--format", data.partition(":")[0], "--only", "masks") == 0
    dataset = open_dataset(f"{data},val=1", "val")
    model = _classes(icnet_file)
    for index in range(2):
        labels = dataset.load(index)[1]
        mask = read_mask(Path("out/masks") / f"{Path(dataset.title(index)).stem}.png").numbers
        assert mask is not None
        for number, name in enumerate(dataset.classes):
            assert np.array_equal(labels == number, mask == model.index(name))


def _classes(model: Path) -> tuple[str, ...]:
    from rtseg.model_file.load import load_model

    return load_model(model).spec.classes


def test_yolo_lines_cover_the_mask(icnet_file: Path, images: Path) -> None:
    assert _predict(icnet_file, "--format", "yolo", "--only", "masks") == 0
    mask = read_mask(Path("out/masks/a.png")).numbers
    assert mask is not None
    painted = np.full(mask.shape, 255, np.uint8)
    for line in Path("out/labels/a.txt").read_text().splitlines():
        number, *corners = line.split()
        ring = np.array(corners, float).reshape(-1, 2) * mask.shape[::-1]
        painted[fill_rings([ring], (mask.shape[0], mask.shape[1]))] = int(number)
    assert np.array_equal(painted, mask)
    assert '\n  0: "Sky"\n' in Path("out/data.yaml").read_text()


def test_the_tables_of_voc_and_cvat_name_classes_with_colours(icnet_file: Path, images: Path) -> None:
    assert _predict(icnet_file, "--format", "voc") == 0
    assert Path("out/labelmap.txt").read_text().splitlines()[1] == "Sky:70,130,180::"
    assert Path("out/ImageSets/Segmentation/default.txt").read_text() == "a\nb\n"
    assert _predict(icnet_file, "--format", "cvat") == 0
    root = ElementTree.parse("out/annotations.xml").getroot()
    assert [label.findtext("name") for label in root.iter("label")] == list(_classes(icnet_file))
    assert [image.get("name") for image in root.iter("image")] == ["a.png", "b.jpg"]


def test_an_image_that_cannot_be_read_is_left_out(
    icnet_file: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/b.jpg").write_bytes(b"nothing")
    assert _predict(icnet_file, "--format", "coco") == 2
    assert [image["file_name"] for image in json.loads(Path("out/annotations.json").read_text())["images"]] == ["a.png"]


@pytest.mark.parametrize("options", [["--format", "kitti"], ["--format", "coco", "--tolerance", "-1"]])
def test_options_are_checked(
    options: list[str], icnet_file: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "in", "-m", str(icnet_file), "-o", "out", *options]) == 2
    assert options[-2] in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_full_disk_leaves_no_document(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from rtseg.app.annotate import open_annotations
from rtseg.errors import SinkError
from rtseg.model_file.spec import ModelSpec
spec = ModelSpec("tiny", ("Road",), ((1, 2, 3),), (8, 8))
writer = open_annotations(sys.argv[1], Path(sys.argv[2]), spec, tolerance=0.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    for index in range(100):
        writer.add(Path("a.png"), "a.png", Path("a"), np.zeros((8, 8), np.uint8))
except SinkError as error:
    print(error)
writer.close()
"""
    for kind, name in (("coco", "annotations.json"), ("cvat", "annotations.xml")):
        command = [sys.executable, "-c", script, kind, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "the disk is full" in done.stdout
        assert not (tmp_path / name).exists()
