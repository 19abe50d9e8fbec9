"""What other programs write beside a model is found: classes, size and normalization."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers.foreign_graphs import ForeignGraph

from rtseg.errors import MissingExtra
from rtseg.importing.import_onnx import ImportedModel, Origin, import_onnx
from rtseg.importing.options import ImportOptions
from rtseg.importing.plan import IMAGENET_MEAN, IMAGENET_STD, Normalization
from rtseg.importing.side_files import read_side_files

pytest.importorskip("onnxruntime")


def facts_of(folder: Path, name: str, content: Any) -> Any:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text)
    found = read_side_files(onnx.ModelProto(), folder / "net.onnx")
    assert [each.source for each in found] == [name]
    return found[0]


class TestFormats:
    def test_a_preprocessor_of_hugging_face(self, tmp_path: Path) -> None:
        values = {"size": {"height": 512, "width": 1024}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2] * 3}
        facts = facts_of(tmp_path, "preprocessor_config.json", values | {"rescale_factor": 1 / 255})
        assert facts.size == (512, 1024)
        assert facts.normalization == Normalization(255, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))

    def test_one_that_does_not_normalize(self, tmp_path: Path) -> None:
        facts = facts_of(tmp_path, "preprocessor_config.json", {"size": 640, "do_normalize": False})
        assert facts.size == (640, 640)
        assert facts.normalization == Normalization(255, (0, 0, 0), (1, 1, 1))

    def test_names_of_hugging_face_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        names = {str(index): f"class {index % 11}" for index in range(12)}
        assert facts_of(tmp_path, "config.json", {"id2label": names}).classes[9:] == (
            "class 9",
            "class 10",
            "class 0 (2)",
        )

    def test_an_encoder_of_timm(self, tmp_path: Path) -> None:
        values = {"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
        assert facts_of(tmp_path, "config.json", values).normalization == Normalization(255, (0.5,) * 3, (0.25,) * 3)

    def test_transforms_of_mmdeploy(self, tmp_path: Path) -> None:
        transforms = [
            {"type": "LoadImageFromFile"},
            {"type": "Resize", "size": [1024, 512], "keep_ratio": False},
            {"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True},
        ]
        content = {"pipeline": {"tasks": [{"type": "Task", "transforms": transforms}, {"module": "Net"}]}}
        facts = facts_of(tmp_path, "pipeline.json", content)
        assert facts.size == (512, 1024)
        assert facts.normalization == Normalization(1, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

    def test_transforms_of_paddleseg(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml", reason="PyYAML reads the files of PaddleSeg")
        text = "Deploy:\n  transforms:\n  - type: Resize\n    target_size: [640, 360]\n  - type: Normalize\n"
        facts = facts_of(tmp_path, "deploy.yaml", text)
        assert facts.size == (360, 640)
        assert facts.normalization == Normalization(255, (0.5,) * 3, (0.5,) * 3)

    @pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json", "pipeline.json", "deploy.yaml"])
    @pytest.mark.parametrize("text", ["{", "[]", "null", '{"size": {"height": "x"}}', "[" * 2000, "\0"])
    def test_a_file_that_is_none_of_these_says_nothing(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        found = read_side_files(onnx.ModelProto(), tmp_path / "net.onnx")
        assert all(each.classes is None and each.size is None for each in found)


def imported(folder: Path, origin: Origin | None = None, **options: Any) -> ImportedModel:
    graph = ForeignGraph(["N", 3, "H", "W"])
    graph.conv(3, stride=4)
    graph.output("logits")
    options = {"output": folder / "out.onnx"} | options
    return import_onnx(graph.save(folder / "net.onnx"), ImportOptions(**options), origin=origin)


class TestUse:
    def test_files_of_hugging_face_answer_everything(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "road", "1": "sky", "2": "car"}}))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 64}}))
        done = imported(tmp_path)
        assert done.spec.classes == ("road", "sky", "car")
        assert done.spec.size == (32, 64)
        assert done.guesses == ()
        normalization = done.spec.extra["import"]["normalization"]
        assert (tuple(normalization["mean"]), tuple(normalization["std"])) == (IMAGENET_MEAN, IMAGENET_STD)

    def test_options_win_over_files(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "road", "1": "sky", "2": "car"}}))
        done = imported(
            tmp_path, size=(32, 48), classes=("x", "y", "z"), scale=1.0, mean="127.5", std="imagenet", bgr=True
        )
        assert done.spec.classes == ("x", "y", "z")
        normalization = done.spec.extra["import"]["normalization"]
        assert normalization["std"] == [*IMAGENET_STD[::-1]] or normalization["std"] == IMAGENET_STD[::-1]
        assert normalization["bgr"] is True

    def test_what_is_known_about_published_weights_is_used_and_stored(self, tmp_path: Path) -> None:
        origin = Origin(
            trained_on="COCO",
            licence="BSD-3-Clause",
            miou=0.5,
            measured_on="COCO val",
            source="torchvision:net",
            normalization=Normalization(255, (0.5,) * 3, (0.5,) * 3),
            classes=("a", "b", "c"),
        )
        done = imported(tmp_path, origin, size=(32, 48))
        assert (done.spec.licence, done.spec.miou, done.spec.classes) == ("BSD-3-Clause", 0.5, ("a", "b", "c"))
        assert done.spec.extra["import"]["source"] == "torchvision:net"
        assert done.guesses == ()


def test_a_yaml_file_that_cannot_be_read_without_a_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtra, match=r"YAML file beside the network needs .*rtseg\[import\]"):
        facts_of(tmp_path, "deploy.yaml", "Deploy: {}")
