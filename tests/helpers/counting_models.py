"""Tiny model files with predictable labels, for tests with hundreds of batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from helpers.doubles import blue_graph, wide_spec
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import write_spec

SIZE = (4, 6)


def blue_file(folder: Path) -> ModelFile:
    """Write a model whose label of a pixel is its blue value."""
    return _saved(blue_graph(), folder / "blue.onnx")


def counting_file(folder: Path) -> ModelFile:
    """Write a sequence model whose label of a pixel is its blue value plus the number of earlier frames."""
    nodes = [
        helper.make_node("Slice", ["frames", "start", "end", "axes"], ["blue"]),
        helper.make_node("Squeeze", ["blue", "axes"], ["plane"]),
        helper.make_node("Cast", ["plane"], ["float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Squeeze", ["state", "one_axis"], ["seen"]),
        helper.make_node("Add", ["float", "seen"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["labels"], to=onnx.TensorProto.UINT8),
        helper.make_node("Add", ["state", "one"], ["next_state"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([value]), name)
        for name, value in (("start", 0), ("end", 1), ("axes", 3), ("one_axis", 1))
    ]
    weights.append(numpy_helper.from_array(np.ones(1, np.float32), "one"))
    float32, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    inputs = [
        helper.make_tensor_value_info("frames", uint8, ["N", *SIZE, 3]),
        helper.make_tensor_value_info("state", float32, ["N", 1, 1, 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("labels", uint8, ["N", *SIZE]),
        helper.make_tensor_value_info("next_state", float32, ["N", 1, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "counting", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return _saved(model, folder / "counting.onnx")


def _saved(model: onnx.ModelProto, path: Path) -> ModelFile:
    write_spec(model, wide_spec(SIZE))
    path.write_bytes(model.SerializeToString())
    return load_model(path)


def frames_of(*blues: int) -> NDArray[np.uint8]:
    """Return a batch of images, each of one blue value."""
    batch = np.full((len(blues), *SIZE, 3), 7, np.uint8)
    batch[..., 0] = np.array(blues, np.uint8)[:, None, None]
    return batch


def blues_in(labels: NDArray[np.uint8]) -> list[int]:
    """Return the blue values of the images of a batch, from their labels."""
    assert (labels == labels[:, :1, :1]).all(), "an image has labels of several values"
    return [int(value) for value in labels[:, 0, 0]]
