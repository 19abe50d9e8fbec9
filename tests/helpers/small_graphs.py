"""Small graphs that TensorRT accepts, for tests that build engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from helpers.doubles import UINT8, blue_graph
from onnx import TensorProto, helper, numpy_helper

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.model_file.spec import ModelSpec, write_spec

SIZE = (32, 64)
"""(H, W) of the input, in pixels."""
STATE = (1, 4, 8)
"""(D, h, w) of the state of ``remembering``."""


def brightest(path: Path, *, gain: float = 0.5, size: tuple[int, int] = SIZE) -> Path:
    """Write a model whose class is the brightest of B, G and R after ``gain``; the first of equal ones.

    A gain of 1000 overflows in fp16, whose largest number is 65504.
    """
    model = _model(gain, size)
    write_spec(model, ModelSpec("brightest", CLASSES, PALETTE, size))
    onnx.save(model, path)
    return path


def remembering(path: Path) -> Path:
    """Write a sequence model: ``brightest`` with a state that decays."""
    model = _model(0.5, SIZE)
    shape = ["N", *STATE]
    model.graph.node.append(helper.make_node("Mul", ["state", "gain"], ["next_state"], "fade"))
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, shape))
    model.graph.output.append(helper.make_tensor_value_info("next_state", TensorProto.FLOAT, shape))
    write_spec(model, ModelSpec("remembering", CLASSES, PALETTE, SIZE))
    onnx.save(model, path)
    return path


def _model(gain: float, size: tuple[int, int]) -> onnx.ModelProto:
    tail = ["N", *size]
    nodes = [
        helper.make_node("Cast", ["frames"], ["values"], "widen", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["values", "gain"], ["scores"], "scale"),
        helper.make_node("ArgMax", ["scores"], ["classes"], "choose", axis=3, keepdims=0),
        helper.make_node("Cast", ["classes"], ["labels"], "narrow", to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [*tail, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, tail)],
        [numpy_helper.from_array(np.array(gain, np.float32), "gain")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def convolved(path: Path) -> Path:
    """Write a model of two convolutions, which can be quantized: they mix B, G and R into a score per class."""
    model = _model(1.0, SIZE)
    graph = model.graph
    widen, _, _, narrow = graph.node
    generator = np.random.default_rng(0)
    for name, shape in (("first", (8, 3, 1, 1)), ("last", (len(CLASSES), 8, 1, 1))):
        graph.initializer.append(numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name))
    nodes = [
        widen,
        helper.make_node("Transpose", ["values"], ["planes"], "turn", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first"], ["mixed"], "mix"),
        helper.make_node("Relu", ["mixed"], ["kept"], "keep"),
        helper.make_node("Conv", ["kept", "last"], ["scores"], "score"),
        helper.make_node("ArgMax", ["scores"], ["classes"], "choose", axis=1, keepdims=0),
        narrow,
    ]
    del graph.node[:], graph.initializer[0]
    graph.node.extend(nodes)
    write_spec(model, ModelSpec("convolved", CLASSES, PALETTE, SIZE))
    onnx.save(model, path)
    return path


def uncast(path: Path) -> Path:
    """Write a model that slices its uint8 images before a cast, which TensorRT's parser rejects."""
    model = blue_graph(casts=False, frames=("frames", UINT8, ["N", *SIZE, 3]), labels=("labels", UINT8, ["N", *SIZE]))
    write_spec(model, ModelSpec("uncast", CLASSES, PALETTE, SIZE))
    onnx.save(model, path)
    return path
