from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import ModelSpec
from rtseg.model_file.weight_range import reduce_weight_range

SPEC = ModelSpec("weights", ("A", "B"), ((0, 0, 0), (255, 255, 255)), (64, 64))


def dequantized(graph: onnx.ModelProto) -> list[np.ndarray]:
    """What each DequantizeLinear of ``graph`` gives, computed by ONNX's own reference."""
    from onnx.reference import ReferenceEvaluator

    return [np.asarray(value) for value in ReferenceEvaluator(graph).run(None, {})]


def weights_file(*tensors: tuple[np.ndarray, np.ndarray, np.ndarray | None]) -> ModelFile:
    """A graph that dequantizes each of (weights, scale, zero point), along axis 0."""
    nodes, stored, outputs = [], [], []
    for number, parts in enumerate(tensors):
        names = [f"{kind}{number}" for kind, part in zip("wsz", parts, strict=True) if part is not None]
        stored += [numpy_helper.from_array(part, name) for part, name in zip(parts, names, strict=False)]
        nodes.append(helper.make_node("DequantizeLinear", names, [f"y{number}"], axis=0))
        outputs.append(helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, parts[0].shape))
    graph = helper.make_graph(nodes, "weights", [], outputs, stored)
    return ModelFile(Path("weights.onnx"), SPEC, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]))


def stored_by(graph: onnx.ModelProto) -> np.ndarray:
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    return tensors[graph.graph.node[0].input[0]]


@pytest.mark.parametrize("zero", [None, np.zeros(3, np.int8)])
def test_weights_fit_into_seven_bits_and_keep_their_values_to_one_step(zero: np.ndarray | None) -> None:
    values = np.array([[-128, -127, -1], [0, 1, 3], [64, 126, 127]], np.int8)
    scale = np.array([0.5, 0.25, 0.125], np.float32)
    before = weights_file((values, scale, zero))
    after = reduce_weight_range(before).graph
    assert stored_by(after).dtype == np.int8
    assert np.abs(stored_by(after).astype(int)).max() <= 64
    error = np.abs(dequantized(after)[0] - dequantized(before.graph)[0])
    assert (error <= scale[:, None]).all()
    assert (error[values % 2 == 0] == 0).all()
    np.testing.assert_array_equal(stored_by(before.graph), values)  # the file's own graph is not changed


def test_a_zero_point_is_taken_out_first() -> None:
    values = np.array([[0, 255], [10, 20]], np.uint8)
    before = weights_file((values, np.float32([0.5, 2]), np.uint8([128, 15])))
    after = reduce_weight_range(before).graph
    assert np.abs(stored_by(after).astype(int)).max() <= 64
    np.testing.assert_allclose(dequantized(after)[0], dequantized(before.graph)[0], atol=2 * 2)


def test_small_weights_stay_as_they_are() -> None:
    before = weights_file((np.array([[-64, 63]], np.int8), np.float32([0.5]), None))
    assert reduce_weight_range(before).graph == before.graph


def test_a_scale_that_two_weights_share_serves_the_other_as_before() -> None:
    large, small = np.array([[127]], np.int8), np.array([[5]], np.int8)
    model = weights_file((large, np.float32([1]), None), (small, np.float32([1]), None))
    model.graph.graph.node[1].input[1] = "s0"
    first, second = dequantized(reduce_weight_range(model).graph)
    assert (first.item(), second.item()) == (128, 5)
