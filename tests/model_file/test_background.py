from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from helpers.doubles import blue_graph

from rtseg.errors import ModelError
from rtseg.model_file.background import store_backgrounds
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import ModelSpec, write_spec
from rtseg.preprocess import Prepare

SPEC = ModelSpec("tiny", ("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (4, 6))


def save(folder: Path, background: str) -> Path:
    model = blue_graph()
    write_spec(model, replace(SPEC, preprocess=(f"background:{background}", "clahe")))
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "a.onnx")
    return folder / "a.onnx"


def test_a_relative_name_means_beside_the_model(tmp_path: Path) -> None:
    path = save(tmp_path / "models", "still.png")
    cv2.imwrite(str(tmp_path / "models" / "still.png"), np.full((4, 6, 3), 100, np.uint8))
    spec = load_model(path).spec
    assert spec.preprocess == (f"background:{tmp_path / 'models' / 'still.png'}", "clahe")
    assert Prepare(spec)(np.zeros((4, 6, 3), np.uint8)).shape == (4, 6, 3)


@pytest.mark.parametrize("name", ["/dev/zero", "/etc/passwd", "../still.png", "a/../../still.png", "link.png"])
def test_a_background_outside_the_folder_of_the_model_is_refused(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / "models", name)
    (tmp_path / "models" / "link.png").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match=r"a\.onnx: its background .* is not in the folder of the model"):
        load_model(path)


def test_a_stored_background_is_copied_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "still.png").write_bytes(b"image")
    spec = replace(SPEC, preprocess=(f"background:{tmp_path / 'still.png'}", "clahe"))
    stored = store_backgrounds(spec, tmp_path / "models" / "mine.onnx")
    assert stored.preprocess == ("background:mine-background.png", "clahe")
    assert (tmp_path / "models" / "mine-background.png").read_bytes() == b"image"


def test_a_background_that_is_beside_the_file_is_named_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "still.png").write_bytes(b"image")
    spec = replace(SPEC, preprocess=(f"background:{tmp_path / 'still.png'}",))
    assert store_backgrounds(spec, tmp_path / "mine.onnx").preprocess == ("background:still.png",)
    assert store_backgrounds(SPEC, tmp_path / "mine.onnx") is SPEC
