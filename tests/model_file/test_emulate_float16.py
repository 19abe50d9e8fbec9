from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers.small_graphs import brightest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.backends.base import BackendOptions
from rtseg.backends.onnxruntime import OnnxRuntimeBackend
from rtseg.model_file.emulate_float16 import emulate_float16
from rtseg.model_file.float16 import to_float16
from rtseg.model_file.load import ModelFile, load_model

SHAPE = (1, 8, 16, 16)


def half_model(operator: str) -> ModelFile:
    """Return two 1x1 convolutions in fp16 with ``operator`` between them, on tensors instead of images."""
    kernel = np.random.default_rng(1).normal(size=(8, 8, 1, 1)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["h", "kernel"], ["a"]),
        helper.make_node(operator, ["a"], ["b"]),
        helper.make_node("Conv", ["b", "kernel"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return ModelFile(Path("two.onnx"), None, model)  # type: ignore[arg-type]


def run(model: ModelFile, values: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.graph.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": values})[0]
    return result


def computed_in_half(model: ModelFile, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the same with numpy: float32 sums, rounded to fp16 after each operator."""
    kernel = numpy_helper.to_array(model.graph.graph.initializer[0])[:, :, 0, 0].astype(np.float32)

    def convolve(maps: NDArray[np.float16]) -> NDArray[np.float16]:
        with np.errstate(over="ignore"):
            return np.einsum("oi,nihw->nohw", kernel, maps.astype(np.float32)).astype(np.float16)

    return convolve(np.maximum(convolve(values.astype(np.float16)), np.float16(0))).astype(np.float32)


class TestRounding:
    def test_every_value_is_that_of_arithmetic_in_fp16(self) -> None:
        model = half_model("Relu")
        values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        expected = computed_in_half(model, values)
        assert (run(emulate_float16(model), values) == expected).mean() > 0.99, "sums may differ in their last bit"
        assert (run(model, values) == expected).mean() < 0.9, "the runtime rounds by itself: this module is not needed"

    def test_what_is_too_large_for_fp16_overflows(self) -> None:
        model = half_model("Relu")
        values = np.full(SHAPE, 60000, np.float32)
        expected = computed_in_half(model, values)
        assert not np.isfinite(expected).all()
        assert np.array_equal(np.isfinite(run(emulate_float16(model), values)), np.isfinite(expected))

    @pytest.mark.parametrize("operator", ["Sigmoid", "Relu", "Identity"])
    def test_no_tensor_but_those_between_two_casts_is_fp16(self, operator: str) -> None:
        graph = emulate_float16(half_model(operator)).graph
        inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True).graph
        halves = {
            value.name for value in inferred.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16
        }
        assert halves
        for node in graph.graph.node:
            if node.op_type != "Cast":
                assert not halves & {*node.input, *node.output}


def test_a_model_keeps_its_spec_and_runs_as_a_model(tmp_path: Path) -> None:
    model = load_model(brightest(tmp_path / "brightest.onnx"))
    rounded = emulate_float16(to_float16(model))
    assert (rounded.spec, rounded.path) == (model.spec, model.path)
    images = np.random.default_rng(3).integers(0, 256, (2, *model.spec.size, 3), dtype=np.uint8)
    labels = [OnnxRuntimeBackend(each, BackendOptions()).infer(images) for each in (model, rounded)]
    assert np.array_equal(labels[0], images.argmax(3))
    assert np.array_equal(labels[1], images.argmax(3))


def test_a_graph_without_fp16_stays_as_it_is(tmp_path: Path) -> None:
    model = load_model(brightest(tmp_path / "brightest.onnx"))
    assert emulate_float16(model).graph == model.graph
