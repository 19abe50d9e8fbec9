"""Converts a graph to fp16, for runtimes that compute in the types of the graph.

A strongly typed TensorRT network takes all types from the ONNX file, so fp16 is not an option of its builder.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.errors import ModelError, OptionError
from rtseg.model_file.graph import copy_graph, find_consumers, fold_fp16_casts, infer_types, is_quantized
from rtseg.model_file.load import ModelFile

__all__ = ["to_float16"]

_FP16_SCALES_OPSET = 19
"""The first opset whose QuantizeLinear and DequantizeLinear allow fp16 scales (ONNX, Operators.md)."""
_MAX_FP16 = float(np.finfo(np.float16).max)
_MIN_SCALE = np.float16(2.0**-20)
"""Smaller scales lose too much precision in fp16."""
_FLOAT_INPUTS = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}
"""(operator, input) that ONNX requires in float32 whatever the type of the data: regions and factors."""
_DATA_MOVERS = ("Transpose", "Slice", "Reshape", "Squeeze", "Unsqueeze", "Concat", "Split", "Identity", "Gather")
"""Operators that only move values. TensorRT does not support them on uint8."""


def to_float16(model: ModelFile, *, keep: Collection[str] = ()) -> ModelFile:
    """Convert weights and activations to fp16.

    ``frames`` and ``labels`` stay uint8, ``state`` and ``next_state`` stay float32. ``frames`` are cast before any
    other operator. The scales of a quantized graph become fp16 too, and its weights are rounded again to the new
    scales; this needs opset 19. The factors of a Resize stay float32, as ONNX requires.

    Args:
        model: fp32 or quantized (Q/DQ), as loaded or converted by ``resize_input`` and ``quantize``.
        keep: names of nodes to keep in fp32; each is put between casts.

    Raises:
        OptionError: ``keep`` names a node that does not exist.
        ModelError: a weight is too large for fp16, the graph is inconsistent, it computes with the bytes of the images,
            or its quantization is not symmetric int8.
    """
    unknown = set(keep) - {node.name for node in model.graph.graph.node}
    if unknown:
        raise OptionError(f"{model.path} has no node {sorted(unknown)[0]!r} to keep in fp32: look at the graph's names")
    graph = copy_graph(model)
    fold_fp16_casts(graph)
    del graph.graph.value_info[:]
    types = infer_types(graph)
    _cast_frames_first(graph, types, model)
    _retarget_float_casts(graph, keep)
    if is_quantized(graph):
        _raise_opset(graph)
        _move_scales_to_initializers(graph)
        _check_symmetric_int8(graph, model)
        _round_scales(graph)
    _convert_weights(graph, keep, model)
    _convert_constants(graph, keep)
    _cast_around_kept(graph, keep, types)
    _cast_states(graph)
    infer_types(graph)
    return ModelFile(model.path, model.spec, graph)


def _cast_frames_first(graph: onnx.ModelProto, types: dict[str, int], model: ModelFile) -> None:
    """Cast the images before operators that only move values. fp16 represents 0..255 exactly."""
    if not any(node.op_type in _DATA_MOVERS for node, _ in find_consumers(graph)["frames"]):
        return
    _check_no_byte_arithmetic(graph, types, model)
    for node, index in find_consumers(graph)["frames"]:
        node.input[index] = "frames.fp16"
    graph.graph.node.insert(0, _cast("frames", "frames.fp16", TensorProto.FLOAT16))


def _check_no_byte_arithmetic(graph: onnx.ModelProto, types: dict[str, int], model: ModelFile) -> None:
    """Raise ModelError if uint8 images reach the labels, or an operator with other uint8 tensors, without a cast."""
    moved = {"frames"}
    for node in graph.graph.node:
        if node.op_type == "Cast" or not moved & {*node.input}:
            continue
        if node.op_type in _DATA_MOVERS:
            moved.update(node.output)
        others = {*node.input, *node.output} - moved
        if "labels" in node.output or any(types.get(name) == TensorProto.UINT8 for name in others):
            operator = f"{node.op_type} {node.name or node.output[0]!r}"
            raise ModelError(
                f"{model.path} computes with the bytes of the images ({operator}), which TensorRT does not support: "
                "cast them to float before that, and export it again"
            )


def _retarget_float_casts(graph: onnx.ModelProto, keep: Collection[str]) -> None:
    """Change casts to float32 into casts to fp16."""
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16 if node.name not in keep else attribute.i


def _raise_opset(graph: onnx.ModelProto) -> None:
    """Raise the version to 19. It is compatible with 18, so no node changes."""
    for opset in graph.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, _FP16_SCALES_OPSET)


def _qdq_nodes(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in graph.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]


def _move_scales_to_initializers(graph: onnx.ModelProto) -> None:
    """Store scales and zero points as weights instead of Constant nodes, which torch exports."""
    inputs = {name for node in _qdq_nodes(graph) for name in node.input}
    for node in list(graph.graph.node):
        if node.op_type == "Constant" and node.output[0] in inputs and node.attribute[0].name == "value":
            tensor = graph.graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.graph.node.remove(node)


def _check_symmetric_int8(graph: onnx.ModelProto, model: ModelFile) -> None:
    """Raise ModelError for other quantizations. TensorRT reads uint8 as int8 without an error, unlike a CPU."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in _qdq_nodes(graph):
        scale, zero = stored.get(node.input[1]), stored.get(node.input[2]) if len(node.input) > 2 else None
        if scale is None or zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
            raise ModelError(
                f"{model.path} is not quantized to symmetric int8 ({node.op_type} {node.name!r}), which TensorRT "
                "requires: give the model that it was made from, and `rtseg calibrate` it"
            )


def _round_scales(graph: onnx.ModelProto) -> None:
    """Store scales as fp16, and round quantized weights again to the new scales."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes = _qdq_nodes(graph)
    exact = {node.input[1]: numpy_helper.to_array(stored[node.input[1]]) for node in nodes}
    rounded = {name: np.maximum(scale.astype(np.float16), _MIN_SCALE) for name, scale in exact.items()}
    for node in nodes:
        weights, name = stored.get(node.input[0]), node.input[1]
        if weights is not None:
            ratio = exact[name].astype(np.float64) / rounded[name].astype(np.float64)
            values = numpy_helper.to_array(weights)
            rescaled = np.rint(values * _broadcast(ratio, values.ndim, _axis(node)))
            weights.CopyFrom(numpy_helper.from_array(np.clip(rescaled, -127, 127).astype(values.dtype), weights.name))
    for name, scale in rounded.items():
        stored[name].CopyFrom(numpy_helper.from_array(scale, name))


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _broadcast(scale: NDArray[np.float64], dimensions: int, axis: int) -> NDArray[np.float64]:
    """Reshape a scale per channel so that it multiplies a tensor along ``axis``. A single scale is unchanged."""
    if not scale.ndim:
        return scale
    shape = [1] * dimensions
    shape[axis] = -1
    return scale.reshape(shape)


def _convert_weights(graph: onnx.ModelProto, keep: Collection[str], model: ModelFile) -> None:
    """Store float32 weights as fp16. Nodes in ``keep`` and inputs that must be float32 keep the float32 weight."""
    all_consumers = find_consumers(graph)
    for tensor in list(graph.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        consumers = all_consumers.get(tensor.name, [])
        converted = [(node, index) for node, index in consumers if not _stays_float(node, index, keep)]
        if not converted:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max(initial=0) <= _MAX_FP16:
            raise ModelError(f"{model.path}: the weight {tensor.name} is too large for fp16: use --precision fp32")
        if len(converted) == len(consumers):
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
            continue
        name = f"{tensor.name}.fp16"
        graph.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), name))
        for node, index in converted:
            node.input[index] = name


def _stays_float(node: onnx.NodeProto, index: int, keep: Collection[str]) -> bool:
    return node.name in keep or (node.op_type, index) in _FLOAT_INPUTS


def _convert_constants(graph: onnx.ModelProto, keep: Collection[str]) -> None:
    """Store the values of Constant nodes as fp16."""
    all_consumers = find_consumers(graph)
    for node in graph.graph.node:
        consumers = all_consumers.get(node.output[0], []) if node.op_type in ("Constant", "ConstantOfShape") else []
        if any(_stays_float(consumer, index, keep) for consumer, index in consumers):
            continue
        for attribute in node.attribute if consumers else ():
            if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def _cast_around_kept(graph: onnx.ModelProto, keep: Collection[str], types: dict[str, int]) -> None:
    """Put casts around each node that is kept in fp32. ``types`` are those of the original graph."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    nodes = []
    for node in graph.graph.node:
        before, after = [], []
        if node.name in keep and node.op_type != "Constant":
            for index, name in enumerate(node.input):
                if types.get(name) == TensorProto.FLOAT and name not in weights:
                    node.input[index] = f"{name}.{node.name}.fp32"
                    before.append(_cast(name, node.input[index], TensorProto.FLOAT))
            for index, name in enumerate(node.output):
                if types.get(name) == TensorProto.FLOAT:
                    node.output[index] = f"{name}.fp32"
                    after.append(_cast(node.output[index], name, TensorProto.FLOAT16))
        nodes.extend([*before, node, *after])
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def _cast(source: str, target: str, data_type: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], f"{target}.cast", to=data_type)


def _cast_states(graph: onnx.ModelProto) -> None:
    """Cast the state of a sequence model, which is float32 outside of the graph."""
    nodes = list(graph.graph.node)
    if any(value.name == "state" for value in graph.graph.input):
        for node, index in find_consumers(graph)["state"]:
            node.input[index] = "state.fp16"
        for node in nodes:
            node.output[:] = ["next_state.fp16" if name == "next_state" else name for name in node.output]
            node.input[:] = ["next_state.fp16" if name == "next_state" else name for name in node.input]
        nodes.insert(0, _cast("state", "state.fp16", TensorProto.FLOAT16))
        nodes.append(_cast("next_state.fp16", "next_state", TensorProto.FLOAT))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
