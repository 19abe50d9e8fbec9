"""Upsampling by a transposed convolution gives the same labels as the original graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.model_file.load import load_model
from rtseg.model_file.upsample import upsample_by_transposed_conv

SIZE = (6, 10)
"""(H, W) of the logits."""


def graph(
    *,
    factor: float = 4,
    across: float | None = None,
    classes: int = 11,
    choose: dict[str, int] | None = None,
    half: bool = False,
    mode: str = "linear",
    corners: str = "half_pixel",
) -> onnx.ModelProto:
    """Return a graph that ends in a convolution, an upsampling and an argmax."""
    kernel = np.random.default_rng(classes).standard_normal((classes, 3, 1, 1)).astype(np.float32)
    scales = np.array([1, 1, factor, across or factor], np.float32)
    weights = [numpy_helper.from_array(kernel.astype(np.float16) if half else kernel, "kernel")]
    nodes = [helper.make_node("Cast", ["kernel"], ["kernel.fp32"], to=TensorProto.FLOAT)] if half else []
    nodes += [
        helper.make_node("Conv", ["planes", "kernel.fp32" if half else "kernel"], ["small"]),
        helper.make_node(
            "Resize", ["small", "", "scales"], ["large"], mode=mode, coordinate_transformation_mode=corners
        ),
        helper.make_node("ArgMax", ["large"], ["chosen"], **(choose or {"axis": 1, "keepdims": 0})),
        helper.make_node("Cast", ["chosen"], ["labels"], to=TensorProto.UINT8),
    ]
    large = [int(SIZE[0] * factor), int(SIZE[1] * (across or factor))]
    made = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["N", 3, *SIZE])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", *large])],
        [*weights, numpy_helper.from_array(scales, "scales")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def labels(model: onnx.ModelProto, **inputs: NDArray[Any]) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = ort.InferenceSession(model.SerializeToString()).run(["labels"], inputs)[0]
    return found


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("classes", [2, 11, 16])
@pytest.mark.parametrize("factor", [2, 4, 8, 32])
def test_the_labels_are_the_same_and_the_model_is_left_as_it_was(factor: int, classes: int, half: bool) -> None:
    model = graph(factor=factor, classes=classes, half=half)
    before = model.SerializeToString()
    faster = upsample_by_transposed_conv(model)
    onnx.checker.check_model(faster, full_check=True)
    assert "ConvTranspose" in operators(faster)
    assert "Resize" not in operators(faster)
    planes = np.random.default_rng(1).standard_normal((2, 3, *SIZE)).astype(np.float32)
    expected, found = labels(model, planes=planes), labels(faster, planes=planes)
    assert found.shape == expected.shape
    assert len(np.unique(expected)) > 1
    # Another order of summation may change the label if two classes are equal.
    assert (found == expected).mean() > 0.999
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    "other",
    [
        {"classes": 17},
        {"factor": 3},
        {"factor": 2.5},
        {"factor": 4, "across": 2},
        {"mode": "nearest"},
        {"corners": "align_corners"},
        {"corners": "asymmetric"},
        {"choose": {"axis": 2, "keepdims": 0}},
        {"choose": {"axis": 1, "keepdims": 0, "select_last_index": 1}},
    ],
)
def test_another_tail_is_left_as_it_is(other: dict[str, Any]) -> None:
    model = graph(**other)
    assert upsample_by_transposed_conv(model) is model


def test_labels_of_a_size_that_the_file_does_not_tell_are_left_as_they_are() -> None:
    model = graph()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "H"
    assert upsample_by_transposed_conv(model) is model


def test_a_state_that_stands_before_the_labels_is_no_size_of_theirs() -> None:
    model = graph()
    model.graph.node.append(helper.make_node("Identity", ["small"], ["state"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 11, *SIZE]))
    planes = np.random.default_rng(1).standard_normal((1, 3, *SIZE)).astype(np.float32)
    faster = upsample_by_transposed_conv(model)
    assert "ConvTranspose" in operators(faster)
    assert (labels(faster, planes=planes) == labels(model, planes=planes)).mean() > 0.999


def test_a_graph_without_such_a_tail_is_left_as_it_is() -> None:
    model = graph()
    model.graph.node[-1].op_type = "Identity"
    assert upsample_by_transposed_conv(model) is model


@pytest.mark.parametrize("name", ["icnet-camvid", "deeplabv3-mobilenet-camvid"])
def test_the_bundled_models_have_a_tail_that_is_made_faster(name: str, real_frames: NDArray[np.uint8]) -> None:
    from rtseg.weights import bundled_models

    path: Path = bundled_models()[name]
    model = load_model(path).graph
    faster = upsample_by_transposed_conv(model)
    assert operators(faster)[-3:] == ["ArgMax", "Reshape", "Cast"]
    assert (labels(faster, frames=real_frames[:1]) == labels(model, frames=real_frames[:1])).mean() > 0.9999
