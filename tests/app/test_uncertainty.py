"""``rtseg predict --select``: the images that the model is least sure of."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from rtseg.app.uncertainty import mirror_disagreement
from rtseg.cli import main
from rtseg.frame import Image, Labels

IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_a_model_that_labels_mirror_images_alike_is_sure() -> None:
    assert mirror_disagreement(IMAGE, lambda image: (image[..., 0] > 20).astype(np.uint8)) == 0


def test_labels_that_stay_in_place_disagree_where_the_sides_differ() -> None:
    labels = np.zeros((4, 4), np.uint8)
    labels[0, 0] = 1

    def predict(image: Image) -> Labels:
        return labels  # the same buffer each time, as a backend does

    assert mirror_disagreement(IMAGE, predict) == 2 / 16


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_frames: np.ndarray) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    Path("in").mkdir()
    cv2.imwrite("in/empty.png", np.full((64, 96, 3), 90, np.uint8))
    for number, image in enumerate(real_frames):
        cv2.imwrite(f"in/street{number}.png", image[::4, ::4])
    return tmp_path


def test_the_least_sure_images_come_first_and_no_others(
    icnet_file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/damaged.png").write_bytes(b"nothing")
    command = ["predict", "in", "-m", str(icnet_file), "-o", "out", "--format", "coco", "--report", "r.json"]
    assert main([*command, "--select", "2"]) == 2
    said = capsys.readouterr()
    assert "1 of 3 images cannot be used: in/damaged.png" in said.err
    assert "wrote coco annotations of 2 images" in said.out
    assert "disagreement" in said.out
    first, second = json.loads(Path("r.json").read_text())["images"]
    assert first["disagreement"] >= second["disagreement"] > 0
    names = [Path(entry["image"]).name for entry in (first, second)]
    assert [entry["file_name"] for entry in json.loads(Path("out/annotations.json").read_text())["images"]] == names
    assert main([*command, "--select", "9", "--overwrite"]) == 2
    every = json.loads(Path("r.json").read_text())["images"]
    assert len(every) == 4
    assert [entry["disagreement"] for entry in every] == sorted((e["disagreement"] for e in every), reverse=True)
    assert [Path(entry["image"]).name for entry in every][:2] == names


def test_the_margin_ranks_them_too(icnet_file: Path, folder: Path) -> None:
    command = ["predict", "in", "-m", str(icnet_file), "-o", "out", "--only", "masks", "--report", "r.json"]
    assert main([*command, "--select", "2", "--by", "margin"]) == 0
    first, second = json.loads(Path("r.json").read_text())["images"]
    assert 1 > first["margin"] >= second["margin"] > 0


def test_unsure_labels_are_void_in_masks_of_images_and_of_videos(icnet_file: Path, folder: Path) -> None:
    for name, unsure in (("all", []), ("sure", ["--unsure", "0.2"])):
        assert main(["predict", "in", "-m", str(icnet_file), "-o", name, "--only", "masks", *unsure]) == 0
        command = ["stream", "in/*.png", "-m", str(icnet_file), "-o", "null", "--masks", f"{name}/video", "-q"]
        assert main([*command, *unsure]) == 0
    for kind in ("masks", "video"):
        every, sure = (
            [np.asarray(PIL.Image.open(path)) for path in sorted(Path(name, kind).glob("*.png"))]
            for name in ("all", "sure")
        )
        assert len(every) == len(sure) == 4
        assert not any((labels == 255).any() for labels in every)
        assert any((labels == 255).any() for labels in sure)
        assert all(((left == 255) | (left == labels)).all() for left, labels in zip(sure, every, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--select", "0"], "--select must be a number of images from 1"),
        (["--select", "3", "--by", "entropy"], "--by entropy is not measured: use --by margin or --by disagreement"),
        (["--unsure", "1.5"], "--unsure must be a share, above 0 and up to 1, e.g. 0.2; got 1.5"),
        (["--unsure", "0.2", "--backend", "torch"], "the torch backend does not tell how sure labels are"),
        (["--select", "3", "--by", "age"], "--by must be one of disagreement"),
    ],
)
def test_options_are_checked(
    options: list[str], message: str, icnet_file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "in", "-m", str(icnet_file), "-o", "out", *options]) == 2
    assert message in capsys.readouterr().err
