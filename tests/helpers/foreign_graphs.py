"""Small segmentation networks in the layouts of other programs, made with ``onnx.helper``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["ForeignGraph"]

Shape = list[int | str]


class ForeignGraph:
    """Builds a graph node by node; each node reads the result of the one before, and then constants.

    Args:
        shape: of the input.
        kind: of the input.
        name: of the input.
        producer: name and version.
        opset: version of the operators.
    """

    def __init__(
        self,
        shape: Shape,
        kind: int = TensorProto.FLOAT,
        name: str = "input",
        producer: tuple[str, str] = ("pytorch", "2.1.0"),
        opset: int = 17,
        ir: int = 8,
    ) -> None:
        self.inputs = [helper.make_tensor_value_info(name, kind, shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.last = name
        self.producer, self.opset, self.ir = producer, opset, ir

    def constant(self, value: Any) -> str:
        """Add a weight: floats become float32."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *constants: Any, of: str = "", output: str = "", **attributes: Any) -> str:
        """Add a node, and return the name of its output. ``constants`` are arrays or names."""
        result = output or f"value_{len(self.nodes)}"
        names = [each if isinstance(each, str) else self.constant(each) for each in constants]
        self.nodes.append(helper.make_node(operator, [of or self.last, *names], [result], **attributes))
        self.last = result
        return result

    def conv(self, channels: int, inputs: int = 3, stride: int = 1, seed: int = 0, **kwargs: Any) -> str:
        """Add a convolution of 3x3 with random weights, which differ enough for every class to occur."""
        random = np.random.default_rng(seed)
        weights = random.normal(0, 1, (channels, inputs, 3, 3)).astype(np.float32)
        weights -= weights.mean((1, 2, 3), keepdims=True)
        bias = random.normal(0, 0.05, channels).astype(np.float32)
        settings: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [stride] * 2}
        return self.node("Conv", weights, bias, **settings, **kwargs)

    def output(self, name: str = "", kind: int = TensorProto.FLOAT, shape: Shape | None = None) -> None:
        """Make the last result an output; rename it if there is a name."""
        if name:
            self.nodes[-1].output[0] = self.last = name
        self.outputs.append(helper.make_tensor_value_info(self.last, kind, shape))

    def model(self) -> onnx.ModelProto:
        """The graph."""
        graph = helper.make_graph(self.nodes, "foreign", self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=self.ir)
        model.producer_name, model.producer_version = self.producer
        return model

    def save(self, path: Path) -> Path:
        """Write the graph to a file."""
        path.write_bytes(self.model().SerializeToString())
        return path
