"""What is no network for semantic segmentation is refused in one line that says what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.foreign_graphs import ForeignGraph
from onnx import TensorProto, helper, numpy_helper

from rtseg.cli import main
from rtseg.errors import ModelError, OptionError
from rtseg.importing.import_onnx import import_onnx
from rtseg.importing.options import ImportOptions
from rtseg.importing.tflite import import_tflite

pytest.importorskip("onnxruntime")


def network(channels: int = 3) -> ForeignGraph:
    graph = ForeignGraph([1, 3, 32, 48])
    graph.conv(channels)
    graph.output()
    return graph


def two_inputs() -> ForeignGraph:
    graph = network()
    graph.inputs.append(helper.make_tensor_value_info("guide", TensorProto.FLOAT, [1, 1, 32, 48]))
    return graph


def volume() -> ForeignGraph:
    graph = ForeignGraph([1, 1, 16, 32, 48])
    graph.node("Relu")
    graph.output()
    return graph


def classifier() -> ForeignGraph:
    graph = ForeignGraph([1, 3, 32, 48])
    graph.node("GlobalAveragePool")
    graph.node("Flatten")
    graph.output()
    return graph


def detector() -> ForeignGraph:
    """The anchors of a detector without prototypes: (1, 8, 384)."""
    graph = ForeignGraph([1, 3, 32, 48])
    graph.conv(8, stride=2)
    graph.node("Reshape", np.array([1, 8, 384]))
    graph.output("output0")
    return graph


def instances() -> ForeignGraph:
    graph = detector()
    graph.last = "input"
    graph.node("GlobalAveragePool")
    graph.output("output1")
    return graph


def suppression() -> ForeignGraph:
    graph = ForeignGraph([1, 3, 32, 48])
    graph.node("NonMaxSuppression", np.zeros((1, 3, 32), np.float32))
    graph.output()
    return graph


def six_channels() -> ForeignGraph:
    graph = ForeignGraph([1, 6, 32, 48])
    graph.conv(3, inputs=6)
    graph.output()
    return graph


def many_classes() -> ForeignGraph:
    return network(channels=300)


def large_batch() -> ForeignGraph:
    graph = ForeignGraph([4, 3, 32, 48])
    graph.conv(3)
    graph.output()
    return graph


def noise() -> ForeignGraph:
    graph = ForeignGraph([1, 3, 32, 48])
    graph.node("RandomUniformLike")
    graph.output()
    return graph


def endless() -> ForeignGraph:
    graph = ForeignGraph([1, 3, 32, 48])
    graph.conv(3)
    graph.node("Div", np.array(0.0, np.float32))
    graph.output()
    return graph


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (two_inputs, "has 2 inputs (input: float (1, 3, 32, 48); guide: float (1, 1, 32, 48)): rtseg feeds one image"),
        (volume, "is a model for 3-D volumes or clips"),
        (classifier, "it has no spatial output, as a model for classification"),
        (detector, "it is a model for object detection"),
        (instances, "it is a model for instance segmentation"),
        (suppression, "is a model for object detection or instance segmentation (it has NonMaxSuppression)"),
        (six_channels, "takes images that are neither colour nor grey"),
        (many_classes, "has 300 channels, and labels of 8 bits name at most 255 classes"),
        (large_batch, "takes batches of 4 images only"),
        (noise, "computes with random numbers (RandomUniformLike): it was exported in training mode"),
        (endless, "is NaN or infinite"),
    ],
)
def test_other_models_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[], ForeignGraph], expected: str
) -> None:
    path = make().save(tmp_path / "net.onnx")
    assert main(["import", str(path), "--output", str(tmp_path / "out.onnx")]) == 2
    text = capsys.readouterr().err
    assert expected in text
    assert text.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def _custom(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain, model.graph.node[0].op_type = "mmcv", "MMCVDeformConv"


def _nan(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    values[0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, model.graph.initializer[0].name))


def _unknown(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Convolve"


def _empty(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def _own(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="rtseg", value="{}")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_custom, "needs operators that are not those of ONNX: MMCVDeformConv .mmcv.: export it without plugins"),
        (_nan, "has weights that are NaN .'weight_0'.: its training failed"),
        (_unknown, "has a node '' .'Convolve'. that ONNX 17 does not have"),
        (_empty, "it has no graph: export it again"),
        (_own, "is a model file of rtseg already"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, damage: Callable[[onnx.ModelProto], None], expected: str) -> None:
    model = network().model()
    damage(model)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=expected):
        import_onnx(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("net.onnx", b"", "is empty"),
        ("net.onnx", b"not a graph", "is not an ONNX file or is damaged"),
        ("net.pth", b"PK\3\4", "export the network to ONNX first, e.g. with torch.onnx.export"),
        ("net.pdmodel", b"\1", "convert it to ONNX first, e.g. with paddle2onnx"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=expected):
        import_onnx(path)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"classes": ("a", "b")}, "has 3 classes, but 2 are named: name the others too"),
            ({"classes": ("a", "b", "c", "d")}, "has 3 classes, but 4 are named: give fewer names"),
            ({"classes": ("voc",)}, "has 3 classes, but 21 are named"),
            ({"classes": ("a", "b", "missing.txt")}, "cannot read the classes in missing.txt"),
            ({"drop": ("void",), "classes": ("a", "b", "c")}, "--drop void: there is no such class"),
            ({"drop": ("a", "b", "c"), "classes": ("a", "b", "c")}, "--drop leaves no class"),
            ({"output_name": ("nothing",)}, "has no output 'nothing'; it has value_0"),
            ({"mean": "1,2"}, "--mean must be imagenet, or one or three numbers"),
            ({"std": "0"}, "--std must not be 0"),
            ({"mean": "inf"}, "--mean must be finite"),
            ({"palette": "nothing"}, "cannot read"),
        ],
    )
    def test_that_do_not_fit(self, tmp_path: Path, options: dict[str, object], expected: str) -> None:
        path = network().save(tmp_path / "net.onnx")
        with pytest.raises((ModelError, OptionError), match=expected):
            import_onnx(path, ImportOptions(output=tmp_path / "out.onnx", **options))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"scale": 0.0}, "--scale must be more than 0"),
            ({"threshold": 1.0}, "--threshold must be between 0 and 1"),
            ({"output": Path("a.bin")}, "--output must end in .onnx"),
            ({"size": (4, 4)}, "--size must be 16 to 8192"),
        ],
    )
    def test_out_of_range(self, options: dict[str, object], expected: str) -> None:
        with pytest.raises(OptionError, match=expected):
            ImportOptions(**options)  # type: ignore[arg-type]

    def test_the_model_itself_is_not_overwritten(self, tmp_path: Path) -> None:
        path = network().save(tmp_path / "net.onnx")
        before = path.read_bytes()
        with pytest.raises(OptionError, match="is the model itself"):
            import_onnx(path, ImportOptions(output=path))
        assert path.read_bytes() == before


def test_an_original_that_other_commands_get_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = network().save(tmp_path / "net.onnx")
    for words in (
        ["stream", "camera:0", "--model"],
        ["eval", "--data", "synthetic:street", "--model"],
        ["build-engine"],
    ):
        assert main([*words, str(path)]) == 2
        text = capsys.readouterr().err
        assert "is an ONNX graph by pytorch 2.1.0 with the input input: float (1, 3, 32, 48) and the output" in text
        assert f"`rtseg import {path} --classes NAME,NAME,...`" in text


class TestTflite:
    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "net.tflite"
        with pytest.raises(ModelError, match="no model at"):
            import_tflite(path)
        path.write_bytes(b"TFL3 at the wrong place")
        with pytest.raises(ModelError, match=r"net.tflite is not a TFLite file or is damaged"):
            import_tflite(path)

    def test_without_the_converter_its_packages_are_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "net.tflite"
        path.write_bytes(b"\x1c\0\0\0TFL3")
        monkeypatch.setattr("rtseg.importing.tflite.find_spec", lambda name: None)
        assert main(["import", str(path), "--classes", "voc"]) == 2
        text = " ".join(capsys.readouterr().err.split())
        assert (
            "is a TFLite file, and converting it needs tf2onnx and tensorflow: pip install tf2onnx tensorflow" in text
        )
