from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.small_network import SIZE, SPEC, small_data, small_images, small_model
from onnx import TensorProto, helper, numpy_helper

from rtseg.backends import open_backend
from rtseg.deploy.calibrate import calibrate
from rtseg.deploy.options import CalibrateOptions
from rtseg.deploy.sensitivity import find_wrong_group
from rtseg.model_file.activation_ranges import Ranges
from rtseg.model_file.emulate_int8 import emulate_int8
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.quantize import quantize, record_ranges
from rtseg.model_file.quantized_concat import separate_quantized_concats
from rtseg.model_file.spec import write_spec

SHAPES = {
    "stem": (8, 3, 3, 3),
    "left": (12, 8, 3, 3),
    "right": (19, 8, 1, 1),
    "body": (8, 31, 3, 3),
    "logits": (3, 8, 1, 1),
}


def concat_model(behind: str, folder: Path) -> ModelFile:
    """``frames`` -> stem -> left and right -> Concat -> ``behind`` -> body -> logits -> ``labels``."""
    random = np.random.default_rng(3)
    stored = [numpy_helper.from_array(np.full((1, 1, 1, 1), 1 / 64, np.float32), "scale")]
    for name, shape in SHAPES.items():
        stored.append(numpy_helper.from_array(random.normal(0, 0.2, shape).astype(np.float32), f"{name}.weight"))
        stored.append(numpy_helper.from_array(random.normal(0, 0.1, shape[0]).astype(np.float32), f"{name}.bias"))
    stored.append(numpy_helper.from_array(random.uniform(0.5, 1.5, (31, 1, 1)).astype(np.float32), "factor"))
    last = {
        "": [],
        "Relu": [helper.make_node("Relu", ["joined"], ["seen"], "seen")],
        "Mul": [helper.make_node("Mul", ["joined", "factor"], ["seen"], "seen")],
    }[behind]
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], "pixels", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"], "scaled"),
        convolution("stem", "scaled"),
        convolution("left", "stem"),
        convolution("right", "stem"),
        helper.make_node("Concat", ["left", "right"], ["joined"], "joined", axis=1),
        *last,
        convolution("body", "seen" if last else "joined"),
        convolution("logits", "body"),
        helper.make_node("ArgMax", ["logits"], ["best"], "best", axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["labels"], "labels", to=TensorProto.UINT8),
    ]
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", *SIZE, 3])
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", *SIZE])
    graph = helper.make_graph(nodes, "concat", [frames], [labels], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    write_spec(model, SPEC)
    path = folder / "concat.onnx"
    path.write_bytes(model.SerializeToString())
    return load_model(path)


def convolution(name: str, source: str) -> onnx.NodeProto:
    edge = [SHAPES[name][2] // 2] * 4
    return helper.make_node("Conv", [source, f"{name}.weight", f"{name}.bias"], [name], name, pads=edge)


def ranges_of(model: ModelFile) -> Ranges:
    return Ranges("concat", "0" * 64, "minmax", "noise", 4, record_ranges(model, small_images(), "minmax"))


@pytest.mark.parametrize("behind", ["", "Relu", "Mul"])
def test_convolutions_behind_a_concatenation_are_exact_in_int8(behind: str, tmp_path: Path) -> None:
    """Without the pooling, OpenVINO gives other labels for a third of the pixels."""
    model = concat_model(behind, tmp_path)
    quantized = quantize(model, ranges_of(model))
    separated = separate_quantized_concats(quantized)
    pooled = [node.input[0] for node in separated.graph.graph.node if node.op_type == "MaxPool"]
    assert len(pooled) == 1
    with (
        open_backend("openvino", emulate_int8(quantized), precision="fp32") as exact,
        open_backend("openvino", quantized, precision="int8") as candidate,
        open_backend("onnxruntime", separated, precision="int8") as other,
    ):
        images = small_images()
        expected = exact.infer(images).copy()
        assert len(np.unique(expected)) > 1
        assert (candidate.infer(images) == expected).mean() > 0.995
        assert (other.infer(images) == expected).mean() > 0.995


def test_what_the_runtime_computes_wrongly_is_kept_in_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = concat_model("", tmp_path)
    ranges, images = ranges_of(model), list(small_images())
    assert find_wrong_group(model, ranges, images, 0.975) is None
    monkeypatch.setattr("rtseg.backends.openvino.separate_quantized_concats", lambda model: model)
    wrong = find_wrong_group(model, ranges, images, 0.975)
    assert wrong is not None
    assert wrong.nodes == ("body",)
    assert wrong.gain > 2.5
    monkeypatch.setattr("rtseg.deploy.calibrate._Altered", lambda data: data)
    monkeypatch.chdir(tmp_path)
    messages: list[str] = []
    done = calibrate(CalibrateOptions(model.path, small_data(model, tmp_path / "data")), notify=messages.append)
    assert "body" in done.ranges.kept_nodes
    assert any("body stays in float: the graph on the CPU by OpenVINO" in line for line in messages)
    assert done.ranges.verdict is not None
    assert done.ranges.verdict["arithmetic"]["passed"]


def test_other_graphs_stay_as_they_are(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    ranges = Ranges("small", "0" * 64, "minmax", "noise", 4, record_ranges(model, small_images(), "minmax"))
    quantized = quantize(model, ranges)
    assert separate_quantized_concats(quantized).graph == quantized.graph
