from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.doubles import FakeBackend, blue_graph, wide_spec
from helpers.moving_images import texture

from rtseg.app.evaluate import Evaluation
from rtseg.app.options import EvaluationOptions
from rtseg.backends import read_spec
from rtseg.camvid_classes import CLASSES
from rtseg.datasets import Dataset, ReadFile, open_dataset
from rtseg.errors import DatasetError, OptionError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID, ModelSpec, file_sha256, write_spec

DATA = "synthetic:street,frames=3"


def test_the_result_names_model_data_and_backend(icnet_file: Path) -> None:
    with Evaluation(EvaluationOptions(DATA, str(icnet_file), "val", backend="onnxruntime")) as evaluation:
        facts = evaluation.run()
    assert (facts["model"], facts["model_sha256"]) == ("tiny", file_sha256(icnet_file))
    assert (facts["data"], facts["images"], facts["size"]) == ("synthetic street val (3 frames)", 3, [64, 96])
    assert (facts["backend"], facts["precision"], facts["device"]) == ("onnxruntime", "fp32", "CPU")
    assert set(facts["iou"]) == set(CLASSES)
    assert 0 <= facts["miou"] <= 1
    assert 0 < facts["pixel_accuracy"] < 1


def test_only_the_evaluated_images_are_counted(icnet_file: Path) -> None:
    with Evaluation(EvaluationOptions(DATA, str(icnet_file), "val", backend="onnxruntime")) as evaluation:
        assert evaluation.run([2, 0])["images"] == 2
        assert evaluation.run([1])["images"] == 1


def test_a_model_with_other_classes_than_the_data_is_refused_and_the_message_lists_both(tmp_path: Path) -> None:
    model = blue_graph()
    write_spec(model, wide_spec((4, 6)))
    path = tmp_path / "wide.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        DatasetError,
        match=r"has Sky, .*, which wide lacks .it has class 0, .*--map-classes, e.g. class 0=Sky, or void=Sky",
    ):
        Evaluation(EvaluationOptions(DATA, str(path), "val"))


def test_an_unknown_backend_is_refused(icnet_file: Path) -> None:
    with pytest.raises(OptionError, match="unknown backend 'caffe'"):
        Evaluation(EvaluationOptions(DATA, str(icnet_file), "val", backend="caffe"))


@pytest.fixture(scope="module")
def facts(icnet_file: Path) -> dict[str, Any]:
    """The metrics of the last image."""
    with Evaluation(EvaluationOptions(DATA, str(icnet_file), "val", backend="onnxruntime")) as evaluation:
        return evaluation.run([2])


class TestMetrics:
    def test_the_confusion_matrix_counts_every_labelled_pixel_with_ground_truth_as_rows(
        self, facts: dict[str, Any]
    ) -> None:
        matrix = np.array(facts["confusion"])
        truth = open_dataset(DATA, "val").load(2)[1]
        counts = np.bincount(truth.ravel(), minlength=256)[: len(CLASSES)]
        np.testing.assert_array_equal(matrix.sum(1), counts)
        assert np.trace(matrix) / matrix.sum() == pytest.approx(facts["pixel_accuracy"])

    def test_every_class_has_a_boundary_score_and_single_images_have_no_flicker(self, facts: dict[str, Any]) -> None:
        assert tuple(facts["boundary_f_by_class"]) == CLASSES
        known = [value for value in facts["boundary_f_by_class"].values() if value is not None]
        assert facts["boundary_f"] == pytest.approx(np.mean(known))
        assert 0 < facts["boundary_f"] < 1
        assert facts["boundary_tolerance"] == 0.0075
        assert facts["flicker"] is None


class BlueDataset(Dataset):
    """Two videos of two frames and a single image, void in one corner. ``FakeBackend`` predicts the blue channel."""

    name = "blues"
    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    licence = "none"

    def __len__(self) -> int:
        return 5

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Image, Labels]:
        truth = np.zeros((8, 12), np.uint8)
        truth[:, 6:] = 1
        truth[:2, :2] = VOID
        image = np.zeros((8, 12, 3), np.uint8)
        image[:, 6:] = 1
        image[:index] = 2
        return image, truth

    def sequence(self, index: int) -> str | None:
        return ("x", "x", "y", "y", None)[index]


class LargeBlueDataset(BlueDataset):
    """The same images in a size in which motion can be measured."""

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Image, Labels]:
        image, truth = (np.repeat(np.repeat(array, 8, 0), 8, 1) for array in super().load(index, epoch, read))
        image[..., 1:] = texture(truth.shape)[..., 1:]
        return image, truth


class ResetRecorder(FakeBackend):
    """Records after which batches it was reset."""

    def __init__(self, size: tuple[int, int] = (8, 12)) -> None:
        super().__init__(ModelSpec("fake", BlueDataset.classes, BlueDataset.palette, size))
        self.resets: list[int] = []

    def reset(self) -> None:
        self.resets.append(self.submitted)


class TestVideos:
    @pytest.fixture
    def backend(self, icnet_file: Path, monkeypatch: pytest.MonkeyPatch) -> ResetRecorder:
        backend = ResetRecorder()
        monkeypatch.setattr("rtseg.app.evaluate.open_backend", lambda *args, **options: backend)
        monkeypatch.setattr("rtseg.app.evaluate.open_dataset", lambda *args, **options: BlueDataset())
        return backend

    @pytest.fixture
    def large_backend(self, icnet_file: Path, monkeypatch: pytest.MonkeyPatch) -> ResetRecorder:
        backend = ResetRecorder((64, 96))
        monkeypatch.setattr("rtseg.app.evaluate.open_backend", lambda *args, **options: backend)
        monkeypatch.setattr("rtseg.app.evaluate.open_dataset", lambda *args, **options: LargeBlueDataset())
        return backend

    def test_flicker_is_measured_between_the_frames_of_each_video(
        self, icnet_file: Path, backend: ResetRecorder
    ) -> None:
        with Evaluation(EvaluationOptions("blues:", str(icnet_file), "val")) as evaluation:
            facts = evaluation.run()
        # Each frame has one more row with label 2. Two of the 12 pixels of row 0 are void, none of row 2.
        assert facts["flicker"] == pytest.approx((10 + 12) / (2 * (96 - 4)))

    def test_the_state_of_the_model_is_reset_after_each_video(self, icnet_file: Path, backend: ResetRecorder) -> None:
        with Evaluation(EvaluationOptions("blues:", str(icnet_file), "val")) as evaluation:
            assert evaluation.run()["images"] == 5
        assert backend.resets == [0, 2, 4]

    def test_the_network_runs_on_every_kth_frame_of_each_video(
        self, icnet_file: Path, large_backend: ResetRecorder
    ) -> None:
        options = EvaluationOptions("blues:", str(icnet_file), "val", propagate=2)
        with Evaluation(options) as evaluation:
            facts = evaluation.run()
        assert large_backend.submitted == 3  # the first of each two frames, and the single image
        assert facts["propagate"] == 2
        assert facts["flicker"] == 0, "the second frame of each video has the labels of the first"

    def test_smoothing_keeps_a_label_that_the_network_contradicts_once(
        self, icnet_file: Path, large_backend: ResetRecorder
    ) -> None:
        options = EvaluationOptions("blues:", str(icnet_file), "val", smooth=True)
        with Evaluation(options) as evaluation:
            facts = evaluation.run()
        assert large_backend.submitted == 5
        assert facts["flicker"] == 0
        assert facts["motion_flicker"] == 0

    def test_an_interval_of_no_images_is_refused(self) -> None:
        with pytest.raises(OptionError, match="--propagate must be a number of images from 1, got 0"):
            EvaluationOptions("blues:", propagate=0)


def test_classes_under_other_names_are_scored_and_those_that_the_data_lack_are_not(
    icnet_file: Path, tmp_path: Path
) -> None:
    model = onnx.load(icnet_file)
    classes = ("nothing", *(name.lower() for name in CLASSES[1:-1]), "cyclist")
    write_spec(model, replace(read_spec(icnet_file), classes=classes))
    (tmp_path / "renamed.onnx").write_bytes(model.SerializeToString())
    pairs = ("nothing=void", "void=Sky", "cyclist=Bicyclist")
    with Evaluation(
        EvaluationOptions(DATA, str(tmp_path / "renamed.onnx"), map_classes=pairs, backend="onnxruntime")
    ) as evaluation:
        facts = evaluation.run()
    assert (facts["iou"]["nothing"], facts["boundary_f_by_class"]["nothing"]) == (None, None)
    known = [value for value in facts["iou"].values() if value is not None]
    assert facts["miou"] == pytest.approx(np.mean(known))
    assert facts["iou"]["road"] is not None
