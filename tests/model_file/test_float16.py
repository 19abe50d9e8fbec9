from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.small_graphs import uncast
from helpers.small_network import SIZE, small_graph, small_images, small_model
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.backends.base import BackendOptions
from rtseg.backends.onnxruntime import OnnxRuntimeBackend
from rtseg.errors import ModelError, OptionError
from rtseg.model_file.activation_ranges import Ranges
from rtseg.model_file.emulate_float16 import emulate_float16
from rtseg.model_file.float16 import to_float16
from rtseg.model_file.graph import infer_types
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.quantize import quantize, record_ranges, to_int8
from rtseg.weights import bundled_models, find_model

FLOAT, HALF, INT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8
BUNDLED = ("icnet-camvid", "deeplabv3-mobilenet-camvid")


@pytest.fixture
def small(tmp_path: Path) -> ModelFile:
    return small_model(tmp_path)


@pytest.fixture
def quantized(small: ModelFile) -> ModelFile:
    return quantize(
        small, Ranges("small", "0" * 64, "minmax", "noise", 4, record_ranges(small, small_images(), "minmax"))
    )


def labels(model: ModelFile, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with OnnxRuntimeBackend(model, BackendOptions()) as backend:
        return np.concatenate([backend.infer(frame[None]).copy() for frame in frames])


def of_type(model: ModelFile, kind: int) -> set[str]:
    return {name for name, found in infer_types(model.graph).items() if found == kind}


@pytest.mark.parametrize("name", BUNDLED)
def test_only_the_factors_of_resizing_are_float32(name: str) -> None:
    half = to_float16(load_model(find_model(name)))
    onnx.checker.check_model(half.graph)
    factors = {node.input[2] for node in half.graph.graph.node if node.op_type == "Resize"}
    assert of_type(half, FLOAT) == factors
    assert len(of_type(half, HALF)) > 100


@pytest.mark.parametrize("name", BUNDLED)
def test_labels_agree_with_fp32_on_995_of_1000_pixels_of_real_frames(name: str, real_frames: NDArray[np.uint8]) -> None:
    model = load_model(find_model(name))
    expected = labels(model, real_frames)
    # Rounded to fp16 after every node: by default a CPU computes an fp16 graph in float32.
    found = labels(emulate_float16(to_float16(model)), real_frames)
    assert 0.995 <= (found == expected).mean() < 1
    assert len(np.unique(expected)) >= 5


def test_metadata_and_contract_stay(small: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(to_float16(small).graph.SerializeToString())
    assert load_model(path).spec == small.spec


def test_the_model_given_is_not_changed(small: ModelFile) -> None:
    to_float16(small, keep=["body"])
    assert small.graph == small_graph()


def test_images_that_are_permuted_as_uint8_are_cast_first(small: ModelFile) -> None:
    nodes = {node.name: node for node in small.graph.graph.node}
    cast, transpose = nodes["pixels"], nodes["planes"]
    transpose.input[0], transpose.output[0] = "frames", "pixels"
    cast.input[0], cast.output[0] = "pixels", "planes"
    places = [list(small.graph.graph.node).index(node) for node in (cast, transpose)]
    first, second = small.graph.graph.node[places[0]], small.graph.graph.node[places[1]]
    copy = onnx.NodeProto()
    copy.CopyFrom(first)
    first.CopyFrom(second)
    second.CopyFrom(copy)
    expected = labels(small, small_images())
    half = to_float16(small)
    readers = [node for node in half.graph.graph.node if "frames" in node.input]
    assert [node.op_type for node in readers] == ["Cast"]
    types = infer_types(half.graph)
    assert all(types[node.input[0]] == HALF for node in half.graph.graph.node if node.op_type == "Transpose")
    assert (labels(half, small_images()) == expected).mean() > 0.99


@pytest.mark.parametrize("operator", ["Squeeze", "Concat", "Equal"])
def test_bytes_that_something_needs_as_bytes_are_told_with_the_node(tmp_path: Path, operator: str) -> None:
    model = load_model(uncast(tmp_path / "uncast.onnx"))
    graph = model.graph.graph
    squeeze = graph.node[-1]
    assert (squeeze.op_type, list(squeeze.output)) == ("Squeeze", ["labels"])
    if operator != "Squeeze":
        graph.initializer.append(numpy_helper.from_array(np.zeros((1, 32, 64, 1), np.uint8), "zeros"))
        joined = helper.make_node(operator, [squeeze.input[0], "zeros"], ["joined"], "join")
        if operator == "Concat":
            joined.attribute.append(helper.make_attribute("axis", 0))
        graph.node.insert(len(graph.node) - 1, joined)
        squeeze.input[0] = "joined"
        if operator == "Equal":
            squeeze.output[0] = "same"
            graph.node.append(helper.make_node("Cast", ["same"], ["labels"], "narrow", to=TensorProto.UINT8))
    name = {"Squeeze": "labels"}.get(operator, "join")
    with pytest.raises(ModelError) as caught:
        to_float16(model)
    assert str(caught.value) == (
        f"{model.path} computes with the bytes of the images ({operator} {name!r}), which TensorRT does not support: "
        "cast them to float before that, and export it again"
    )


def test_a_node_to_keep_computes_in_float32_and_nothing_else_does(small: ModelFile) -> None:
    half = to_float16(small, keep=["body"])
    types = infer_types(half.graph)
    node = next(node for node in half.graph.graph.node if node.name == "body")
    assert [types[name] for name in (*node.input, *node.output)] == [FLOAT] * 4
    casts = {name for node in half.graph.graph.node if node.op_type == "Cast" for name in (*node.input, *node.output)}
    assert of_type(half, FLOAT) <= {*node.input, *node.output}
    assert {node.input[0], node.output[0]} <= casts
    assert (labels(half, small_images()) == labels(small, small_images())).mean() > 0.99


def test_a_node_to_keep_that_is_not_there_is_refused(small: ModelFile) -> None:
    with pytest.raises(OptionError, match="no node 'bodies' to keep in fp32"):
        to_float16(small, keep=["bodies", "body"])


def test_a_weight_that_fp16_cannot_hold_is_refused_unless_its_node_is_kept(small: ModelFile) -> None:
    for tensor in small.graph.graph.initializer:
        if tensor.name == "body.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, 1e6, np.float32), tensor.name))
    with pytest.raises(ModelError, match=r"the weight body\.bias is too large for fp16: use --precision fp32"):
        to_float16(small)
    assert "body.bias" in of_type(to_float16(small, keep=["body"]), FLOAT)


def test_a_graph_that_contradicts_itself_is_refused(small: ModelFile) -> None:
    next(node for node in small.graph.graph.node if node.name == "sum").input[1] = "frames"
    with pytest.raises(ModelError, match="is inconsistent"):
        to_float16(small)


def test_the_state_of_a_sequence_model_is_float32_outside_and_fp16_inside(tmp_path: Path) -> None:
    model = small_model(tmp_path, recurrent=True)
    half = to_float16(model)
    assert half.state_shape == model.state_shape == (8, *SIZE)
    assert of_type(half, FLOAT) == {"state", "next_state"}
    expected, found = labels(model, small_images()), labels(half, small_images())
    assert (found == expected).mean() > 0.97
    assert (labels(model, small_images()[1:]) != expected[1:]).mean() > 0.01, "the state does not show in the labels"


def test_scales_of_a_quantized_graph_are_fp16_and_its_integers_stay_int8(quantized: ModelFile) -> None:
    half = to_float16(quantized)
    onnx.checker.check_model(half.graph, full_check=True)
    types = infer_types(half.graph)
    pairs = [node for node in half.graph.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) >= 8
    for node in pairs:
        integer, real = (node.output, node.input) if node.op_type == "QuantizeLinear" else (node.input, node.output)
        assert (types[integer[0]], types[real[0]], types[node.input[1]]) == (INT8, HALF, HALF)
    assert of_type(half, FLOAT) == set()
    assert {opset.version for opset in half.graph.opset_import if not opset.domain} == {19}
    assert (labels(half, small_images()) == labels(quantized, small_images())).mean() > 0.98


def test_weights_with_scales_that_fp16_cannot_hold_keep_their_values(quantized: ModelFile) -> None:
    stored = {tensor.name: tensor for tensor in quantized.graph.graph.initializer}
    node = next(n for n in quantized.graph.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored)
    scale = numpy_helper.to_array(stored[node.input[1]]).copy()
    scale[0] = 1.3e-7  # fp16 has only one digit there
    stored[node.input[1]].CopyFrom(numpy_helper.from_array(scale, node.input[1]))
    before = dequantized(quantized, node.name)
    after = dequantized(to_float16(quantized), node.name)
    assert np.abs(after - before).max() <= 0.51 * scale.max()
    assert np.abs(after[0] - before[0]).max() <= 2.0**-21


def dequantized(model: ModelFile, name: str) -> NDArray[np.float64]:
    node = next(node for node in model.graph.graph.node if node.name == name)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.graph.initializer}
    scale = stored[node.input[1]].astype(np.float64).reshape(-1, 1, 1, 1)
    assert (scale > 0).all()
    return stored[node.input[0]] * scale


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", BUNDLED)
def test_tensorrt_parses_the_graph(name: str, precision: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    assert name in bundled_models()
    model = load_model(find_model(name))
    graph = model if precision == "fp32" else to_float16(model if precision == "fp16" else to_int8(model))
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(graph.graph.SerializeToString())
    assert parsed, [str(parser.get_error(place)) for place in range(parser.num_errors)]
    kinds = {network.get_input(0).dtype, network.get_output(0).dtype}
    assert kinds == {trt.DataType.UINT8}


@pytest.mark.parametrize("wrong", [np.uint8(0), np.int8(3), None])
def test_a_graph_that_tensorrt_would_read_as_another_one_is_refused(
    quantized: ModelFile, wrong: np.generic | None
) -> None:
    to_float16(quantized)
    graph = quantized.graph.graph
    pairs = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    zeros = {node.input[2] for node in pairs}
    for node in pairs if wrong is None else ():
        del node.input[2:]  # then the type is uint8 by default
    for tensor in graph.initializer:
        if tensor.name in zeros:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(wrong or np.uint8(0)), tensor.name))
    with pytest.raises(ModelError, match=r"not quantized to symmetric int8 .*, and `rtseg calibrate` it"):
        to_float16(quantized)


def test_scales_that_stand_in_nodes_are_read_as_those_beside_the_weights(quantized: ModelFile) -> None:
    expected = to_float16(quantized)
    moved = onnx.ModelProto()
    moved.CopyFrom(quantized.graph)
    scales = {name for node in moved.graph.node if node.op_type.endswith("Linear") for name in node.input[1:]}
    for tensor in list(moved.graph.initializer):
        if tensor.name in scales:
            moved.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
            moved.graph.initializer.remove(tensor)
    assert any(node.op_type == "Constant" for node in moved.graph.node)
    found = to_float16(ModelFile(quantized.path, quantized.spec, moved))
    frames = np.stack(small_images())
    np.testing.assert_array_equal(labels(found, frames), labels(expected, frames))
    assert of_type(found, HALF) == of_type(expected, HALF)
