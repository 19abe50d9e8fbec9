"""Describes ONNX graphs that other programs made: inputs, outputs and producer, for messages."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["describe_graph", "describe_value", "dimensions", "foreign_message", "graph_inputs", "producer_of"]

_MAX_SHOWN = 4
"""Values that a message lists."""


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that a caller must give: without weights, which old files list as inputs too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def dimensions(value: onnx.ValueInfoProto) -> tuple[int | str, ...] | None:
    """Return the shape of a value: a length, or a name or "?" where it is not fixed; None if no shape is declared."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in tensor.shape.dim)


def describe_value(value: onnx.ValueInfoProto) -> str:
    """Return e.g. ``images: float (1, 3, 360, 640)``."""
    from onnx import TensorProto

    number, types = value.type.tensor_type.elem_type, TensorProto.DataType
    kind = types.Name(number).lower() if number in types.values() else f"type {number}"
    shape = dimensions(value)
    return f"{value.name}: {kind} ({'shape not declared' if shape is None else ', '.join(map(str, shape))})"


def producer_of(model: onnx.ModelProto) -> str:
    """Return the program that wrote a file, e.g. ``pytorch 2.1.0``."""
    return " ".join(filter(None, (model.producer_name, model.producer_version))) or "an unknown program"


def describe_graph(model: onnx.ModelProto) -> str:
    """Return producer, inputs and outputs in one sentence."""
    return (
        f"an ONNX graph by {producer_of(model)} with the input {_list(graph_inputs(model))} "
        f"and the output {_list(list(model.graph.output))}"
    )


def _list(values: list[onnx.ValueInfoProto]) -> str:
    shown = [describe_value(value) for value in values[:_MAX_SHOWN]]
    if len(values) > _MAX_SHOWN:
        shown.append(f"{len(values) - _MAX_SHOWN} more")
    return "; ".join(shown) or "none"


def foreign_message(model: onnx.ModelProto, path: Path) -> str:
    """Return what to say where a graph of another program is given instead of a model file."""
    command = f"rtseg import {shlex.quote(str(path))} --classes NAME,NAME,..."
    return f"{path} is {describe_graph(model)}, not a model file of rtseg: make one with `{command}`"
