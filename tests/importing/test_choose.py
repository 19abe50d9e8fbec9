"""The right input values are found on labelled images, or overlays are drawn to choose from."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.foreign_graphs import ForeignGraph

from rtseg.errors import DatasetError, ModelError
from rtseg.importing.import_onnx import import_onnx
from rtseg.importing.options import ImportOptions
from rtseg.importing.plan import Normalization

pytest.importorskip("onnxruntime")

SIZE = (32, 48)
RIGHT = Normalization(255, (0.406, 0.456, 0.485), (0.225, 0.224, 0.229), bgr=True)
DATA = "pairs:{0}/images,{0}/masks,classes=cold+warm+bright"


def network(folder: Path) -> Path:
    """Labels pixels by their values after normalization: bright, else blue or red."""
    graph = ForeignGraph([1, 3, *SIZE])
    weights = np.array([[1, 0, -1], [-1, 0, 1], [0.4, 0.4, 0.4]], np.float32).reshape(3, 3, 1, 1)
    graph.node("Conv", weights, np.array([0, 0, -0.7]), kernel_shape=[1, 1])
    graph.output("logits")
    return graph.save(folder / "net.onnx")


@pytest.fixture
def data(tmp_path: Path) -> str:
    random = np.random.default_rng(3)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number in range(12):
        blocks = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        image = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
        values = (image / 255 - RIGHT.mean) / RIGHT.std
        scores = np.stack(
            [values[..., 0] - values[..., 2], values[..., 2] - values[..., 0], 0.4 * values.sum(-1) - 0.7]
        )
        cv2.imwrite(str(tmp_path / "images" / f"{number:02}.png"), image)
        cv2.imwrite(str(tmp_path / "masks" / f"{number:02}.png"), scores.argmax(0).astype(np.uint8))
    return DATA.format(tmp_path)


class TestLabelledImages:
    def test_the_best_of_all_candidates_is_taken(self, tmp_path: Path, data: str) -> None:
        options = ImportOptions(
            classes=("cold", "warm", "bright"), data=data, split="train", output=tmp_path / "out.onnx"
        )
        done = import_onnx(network(tmp_path), options)
        assert done.scores[0].normalization == RIGHT
        assert done.scores[0].miou > 0.99 > done.scores[1].miou + 0.01
        assert done.guesses == ()
        assert done.sheet is None
        assert done.spec.extra["import"]["normalization"]["bgr"] is True
        assert done.spec.extra["import"]["measured"]["miou"] > 0.99

    def test_only_given_values_are_measured(self, tmp_path: Path, data: str) -> None:
        names = ("cold", "warm", "bright")
        options = ImportOptions(classes=names, data=data, split="train", scale=255.0, output=tmp_path / "out.onnx")
        done = import_onnx(network(tmp_path), options)
        assert [score.normalization for score in done.scores] == [Normalization(255, (0, 0, 0), (1, 1, 1))]

    def test_a_near_tie_is_refused(self, tmp_path: Path, data: str) -> None:
        graph = ForeignGraph([1, 3, *SIZE])
        graph.node("Conv", np.zeros((3, 3, 1, 1)), np.array([0.0, 1.0, 0.0]), kernel_shape=[1, 1])
        graph.output()
        options = ImportOptions(
            classes=("cold", "warm", "bright"), data=data, split="train", output=tmp_path / "o.onnx"
        )
        with pytest.raises(ModelError, match="are too close to choose: give --scale, --mean, --std and --bgr, or more"):
            import_onnx(graph.save(tmp_path / "net.onnx"), options)
        assert not (tmp_path / "o.onnx").exists()

    def test_a_class_of_the_data_that_the_model_lacks_is_named(self, tmp_path: Path, data: str) -> None:
        options = ImportOptions(classes=("cold", "warm", "other"), data=data, split="train", output=tmp_path / "o.onnx")
        with pytest.raises(DatasetError, match="has bright, which the model lacks"):
            import_onnx(network(tmp_path), options)


class TestOverlays:
    def test_they_are_drawn_where_the_values_are_guessed(self, tmp_path: Path, data: str) -> None:
        output = tmp_path / "out.onnx"
        done = import_onnx(network(tmp_path), ImportOptions(output=output, images=tmp_path / "images"))
        assert [fact.what for fact in done.guesses] == ["input values", "classes"]
        assert done.sheet == tmp_path / "out-inputs.png"
        sheet = cv2.imread(str(done.sheet))
        assert sheet.shape == (8 * (22 + 320 * SIZE[0] // SIZE[1]), 3 * 320, 3)
        assert done.spec.extra["import"]["guessed"] == ["input values", "classes"]

    def test_none_are_drawn_where_the_values_are_given(self, tmp_path: Path) -> None:
        options = ImportOptions(output=tmp_path / "out.onnx", scale=255.0)
        assert import_onnx(network(tmp_path), options).sheet is None
        assert not (tmp_path / "out-inputs.png").exists()
