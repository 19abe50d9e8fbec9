"""Estimates the sizes of the tensors of an untrusted graph, without computing it.

A graph of 300 bytes can ask for a tensor of a terabyte. The runtimes compute constants while they load a graph, so that
the memory is used before the first frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx
from onnx import inliner, shape_inference

from rtseg.errors import ModelError

__all__ = ["check_tensor_sizes"]

_MAX_ELEMENTS = 1 << 30
"""Of one tensor for one image. 64 channels at 1024x2048 are 2**27."""
_MAX_CONSTANT_ELEMENTS = 1 << 29
"""Of all tensors together that do not depend on the image: a runtime keeps them. The weights do not count."""
_MAX_COPIED = 1024
"""Initializers of more elements are no shapes, so their values do not matter here."""
_SIZE_INPUTS = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
"""Operator -> inputs whose values decide the size of the output."""


def check_tensor_sizes(model: onnx.ModelProto) -> None:
    """Check that no tensor is larger than a segmentation network needs. The graph must be sorted.

    Raises:
        ModelError: one is, or its size depends on the values of the image, or cannot be known although it is constant;
            the message is the rest of a sentence that begins with the name of the file.
    """
    for dims in _sparse_dims(model):
        if math.prod(max(1, each) for each in dims) > _MAX_CONSTANT_ELEMENTS:
            raise ModelError(f"has a sparse tensor of {'x'.join(map(str, dims))} values, more than a network needs")
    light = _without_weights(model)
    try:
        if light.functions:
            light = inliner.inline_local_functions(light)
        light = shape_inference.infer_shapes(light, data_prop=True)
    except Exception as error:  # onnx raises its own and many others
        raise ModelError(f"has invalid shapes ({str(error).splitlines()[0][:200]})") from error
    _check_graph(light.graph, {tensor.name: "" for tensor in model.graph.initializer})


def _sparse_dims(model: onnx.ModelProto) -> Iterator[tuple[int, ...]]:
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    graphs = [model.graph]
    while nodes or graphs:
        if graphs:
            graph = graphs.pop()
            nodes.extend(graph.node)
            yield from (tuple(sparse.dims) for sparse in graph.sparse_initializer)
            continue
        for attribute in nodes.pop().attribute:
            graphs.extend((attribute.g, *attribute.graphs))
            yield from (tuple(sparse.dims) for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors))


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph with the values of small initializers only: the weights would take most of the time."""
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = model.graph
    light.graph.name = graph.name or "graph"
    light.graph.node.extend(graph.node)
    light.graph.input.extend(graph.input)
    light.graph.output.extend(graph.output)
    known = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _MAX_COPIED:
            light.graph.initializer.append(tensor)
        elif tensor.name not in known:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def _check_graph(graph: onnx.GraphProto, outer: dict[str, str]) -> None:
    """Check the inferred shapes of one graph. ``outer``: what the tensors of the graphs around it depend on."""
    shapes = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
    depends = {value.name: "image" for value in graph.input} | {tensor.name: "" for tensor in graph.initializer} | outer
    constants = 0
    for node in graph.node:
        on = _dependence(node, depends)
        _check_size_inputs(node, depends)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _check_graph(inner, depends)
        for name in node.output:
            depends[name] = on
            known = name in shapes and shapes[name].HasField("shape")
            dims = shapes[name].shape.dim if known else ()
            size = math.prod(each.dim_value or 1 for each in dims)
            constants += size if on == "" else 0
            if size > _MAX_ELEMENTS or constants > _MAX_CONSTANT_ELEMENTS:
                raise ModelError(f"needs a tensor of {size:.1e} values at {_title(node)}, more than a network needs")
            is_open = not known or any(not each.HasField("dim_value") for each in dims)
            if is_open and on == "" and node.op_type in _SIZE_INPUTS:
                raise ModelError(f"has a constant of unknown size at {_title(node)}: export it with constant folding")


def _dependence(node: onnx.NodeProto, depends: dict[str, str]) -> str:
    """What the values of the outputs depend on: the values of the ``image``, only its ``shape``, or nothing."""
    inputs = {depends.get(name, "image") for name in node.input if name}
    if node.op_type in ("Shape", "Size"):
        return "shape" if inputs - {""} else ""
    if any(attribute.HasField("g") for attribute in node.attribute):
        return "image"
    return "image" if "image" in inputs else max(inputs, default="")


def _check_size_inputs(node: onnx.NodeProto, depends: dict[str, str]) -> None:
    for index in _SIZE_INPUTS.get(node.op_type, ()):
        if index < len(node.input) and node.input[index] and depends.get(node.input[index], "image") == "image":
            raise ModelError(f"has a tensor whose size depends on the values of the image at {_title(node)}")


def _title(node: onnx.NodeProto) -> str:
    return f"{node.name!r} ({node.op_type!r})"
