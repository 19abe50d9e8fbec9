from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rtseg.errors import ModelError
from rtseg.model_file.emulate_int8 import emulate_int8
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import ModelSpec

SPEC = ModelSpec("quantized", ("A", "B"), ((0, 0, 0), (255, 255, 255)), (64, 64))
VALUES = np.array([[-300, -1.25, -0.25, 0, 0.25, 0.75, 1.25, 63.4, 127, 300]], np.float32)


def quantized(kind: type[np.generic], zero: int, *, per_channel: bool = False) -> ModelFile:
    """``x`` quantized, dequantized and multiplied with dequantized weights of a scale for each channel."""
    scales = np.full(10 if per_channel else (), 0.5, np.float32)
    tensors = {
        "scale": scales,
        "zero": np.full(scales.shape, zero, kind),
        "w": np.array([[1, -2], [3, 4]] * 5, np.int8),
        "ws": np.array([0.5, 0.25], np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], axis=1),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["dw"], axis=1),
        helper.make_node("MatMul", ["d", "dw"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    inputs, outputs = [value("x", TensorProto.FLOAT, [1, 10])], [value("y", TensorProto.FLOAT, [1, 2])]
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "quantized", inputs, outputs, stored)
    opset = [helper.make_opsetid("", 19)]
    return ModelFile(Path("q.onnx"), SPEC, helper.make_model(graph, opset_imports=opset))


def run(graph: onnx.ModelProto) -> np.ndarray:
    return np.asarray(ReferenceEvaluator(graph).run(None, {"x": VALUES})[0])


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.int8, 3), (np.uint8, 0), (np.uint8, 128)])
def test_the_values_are_those_of_the_operators(kind: type[np.generic], zero: int) -> None:
    model = quantized(kind, zero)
    emulated = emulate_int8(model).graph
    onnx.checker.check_model(emulated, full_check=True)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in emulated.graph.node}
    np.testing.assert_array_equal(run(emulated), run(model.graph))


def test_a_scale_for_each_channel_of_activations_is_refused() -> None:
    with pytest.raises(ModelError, match="a scale for each channel of 'x', which holds no weights"):
        emulate_int8(quantized(np.int8, 0, per_channel=True))
