"""Half precision in the graph itself, for runtimes that compute in the types that a graph names.

A strongly typed TensorRT network takes every type from the ONNX file, so fp16 is a property of the file and not a
switch of the builder.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtseg.errors import ModelError, OptionError
from rtseg.model_file.graph import copy_of, fold_kernels, is_quantised, readers, value_types
from rtseg.model_file.load import ModelFile

__all__ = ["to_float16"]

_OPSET_OF_HALF_SCALES = 19
"""The first whose QuantizeLinear and DequantizeLinear take scales of fp16 (ONNX, Operators.md)."""
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST_SCALE = np.float16(2.0**-20)
"""Smaller ones have too few digits in fp16, down to none; the weights are rounded anew to what is stored."""
_FLOAT_PLACES = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}
"""Inputs that ONNX wants in float32 whatever the type of the data: regions and factors."""
_MOVERS = ("Transpose", "Slice", "Reshape", "Squeeze", "Unsqueeze", "Concat", "Split", "Identity", "Gather")
"""Operators that pass uint8 images on as they are; those of TensorRT do not take uint8."""


def to_float16(model: ModelFile, *, keep: Collection[str] = ()) -> ModelFile:
    """``model`` with weights and activations in fp16.

    ``frames`` and ``labels`` stay uint8, ``state`` and ``next_state`` float32 outside. ``frames`` meet a Cast before
    anything else. Of a quantised graph the scales become fp16, too, and weights are rounded anew to the scales so
    rounded; its opset is raised to 19 for that. Only the factors of a Resize stay float32: ONNX wants it so.

    Args:
        model: fp32 or quantised (Q/DQ), as loaded or as ``at_size`` and ``quantize`` give it.
        keep: names of nodes that go on computing in fp32; casts are put around each.

    Raises:
        OptionError: there is no node of a name in ``keep``.
        ModelError: a weight is too large for fp16, the graph is not consistent, it computes with the bytes of the
            images, or it is quantised otherwise than to signed bytes around 0.
    """
    unknown = set(keep) - {node.name for node in model.graph.graph.node}
    if unknown:
        raise OptionError(f"{model.path} has no node {sorted(unknown)[0]!r} to keep in fp32: look at the graph's names")
    graph = copy_of(model)
    fold_kernels(graph)
    del graph.graph.value_info[:]
    types = value_types(graph)
    _cast_frames_first(graph, types, model)
    _drop_casts_to_float(graph, keep)
    if is_quantised(graph):
        _raise_opset(graph)
        _store_constants(graph)
        _refuse_unsigned(graph, model)
        _round_scales(graph)
    _halve_weights(graph, keep, model)
    _halve_constants(graph, keep)
    _wrap_kept(graph, keep, types)
    _cast_states(graph)
    value_types(graph)
    return ModelFile(model.path, model.spec, graph)


def _cast_frames_first(graph: onnx.ModelProto, types: dict[str, int], model: ModelFile) -> None:
    """Move the cast of the images before whatever only moves their values about: 0..255 are exact in fp16."""
    if not any(node.op_type in _MOVERS for node, _ in readers(graph)["frames"]):
        return
    _refuse_bytes(graph, types, model)
    for node, place in readers(graph)["frames"]:
        node.input[place] = "frames.fp16"
    graph.graph.node.insert(0, _cast("frames", "frames.fp16", TensorProto.FLOAT16))


def _refuse_bytes(graph: onnx.ModelProto, types: dict[str, int], model: ModelFile) -> None:
    """Bytes of the images that meet no cast before something has to be a byte: the labels, or what they meet."""
    moved = {"frames"}
    for node in graph.graph.node:
        if node.op_type == "Cast" or not moved & {*node.input}:
            continue
        if node.op_type in _MOVERS:
            moved.update(node.output)
        others = {*node.input, *node.output} - moved
        if "labels" in node.output or any(types.get(name) == TensorProto.UINT8 for name in others):
            where = f"{node.op_type} {node.name or node.output[0]!r}"
            raise ModelError(
                f"{model.path} computes with the bytes of the images ({where}), which TensorRT does not: cast them "
                "to float before that, and export it again"
            )


def _drop_casts_to_float(graph: onnx.ModelProto, keep: Collection[str]) -> None:
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16 if node.name not in keep else attribute.i


def _raise_opset(graph: onnx.ModelProto) -> None:
    """Between 18 and 19 no operator lost anything: the number is all that changes."""
    for opset in graph.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, _OPSET_OF_HALF_SCALES)


def _quantisers(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in graph.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]


def _store_constants(graph: onnx.ModelProto) -> None:
    """Keep the scales and zero points that stand in nodes, as torch exports them, beside the weights."""
    wanted = {name for node in _quantisers(graph) for name in node.input}
    for node in list(graph.graph.node):
        if node.op_type == "Constant" and node.output[0] in wanted and node.attribute[0].name == "value":
            tensor = graph.graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.graph.node.remove(node)


def _refuse_unsigned(graph: onnx.ModelProto, model: ModelFile) -> None:
    """TensorRT reads unsigned bytes as signed ones without a word; a CPU that judges the graph would not see it."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in _quantisers(graph):
        scale, zero = stored.get(node.input[1]), stored.get(node.input[2]) if len(node.input) > 2 else None
        if scale is None or zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
            raise ModelError(
                f"{model.path} is not quantised to signed bytes around 0 ({node.op_type} {node.name!r}), which is all "
                "that TensorRT computes: give the model that it was made of, and `rtseg calibrate` it"
            )


def _round_scales(graph: onnx.ModelProto) -> None:
    """Store scales as fp16, and round quantised weights anew to what is stored."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    quantisers = _quantisers(graph)
    exact = {node.input[1]: numpy_helper.to_array(stored[node.input[1]]) for node in quantisers}
    rounded = {name: np.maximum(scale.astype(np.float16), _SMALLEST_SCALE) for name, scale in exact.items()}
    for node in quantisers:
        weights, name = stored.get(node.input[0]), node.input[1]
        if weights is not None:
            ratio = exact[name].astype(np.float64) / rounded[name].astype(np.float64)
            values = numpy_helper.to_array(weights)
            again = np.clip(np.rint(values * _along(ratio, values.ndim, _axis(node))), -127, 127).astype(values.dtype)
            weights.CopyFrom(numpy_helper.from_array(again, weights.name))
    for name, scale in rounded.items():
        stored[name].CopyFrom(numpy_helper.from_array(scale, name))


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _along(scale: NDArray[np.float64], dimensions: int, axis: int) -> NDArray[np.float64]:
    """One scale a channel, in the form that multiplies a tensor of ``dimensions``; one for all as it is."""
    if not scale.ndim:
        return scale
    shape = [1] * dimensions
    shape[axis] = -1
    return scale.reshape(shape)


def _halve_weights(graph: onnx.ModelProto, keep: Collection[str], model: ModelFile) -> None:
    """Store float32 weights as fp16; for nodes in ``keep``, and where ONNX wants float32, they stay beside it."""
    found = readers(graph)
    for tensor in list(graph.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        uses = found.get(tensor.name, [])
        halved = [(node, place) for node, place in uses if not _stays(node, place, keep)]
        if not halved:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max(initial=0) <= _LARGEST:
            raise ModelError(f"{model.path}: the weight {tensor.name} is too large for fp16: use --precision fp32")
        if len(halved) == len(uses):
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
            continue
        name = f"{tensor.name}.fp16"
        graph.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), name))
        for node, place in halved:
            node.input[place] = name


def _stays(node: onnx.NodeProto, place: int, keep: Collection[str]) -> bool:
    return node.name in keep or (node.op_type, place) in _FLOAT_PLACES


def _halve_constants(graph: onnx.ModelProto, keep: Collection[str]) -> None:
    """The same for constants that stand in nodes."""
    found = readers(graph)
    for node in graph.graph.node:
        uses = found.get(node.output[0], []) if node.op_type in ("Constant", "ConstantOfShape") else []
        if any(_stays(reader, place, keep) for reader, place in uses):
            continue
        for attribute in node.attribute if uses else ():
            if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def _wrap_kept(graph: onnx.ModelProto, keep: Collection[str], types: dict[str, int]) -> None:
    """Put casts around each node that computes in fp32. ``types`` are those of the graph before."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    nodes = []
    for node in graph.graph.node:
        before, after = [], []
        if node.name in keep and node.op_type != "Constant":
            for place, name in enumerate(node.input):
                if types.get(name) == TensorProto.FLOAT and name not in weights:
                    node.input[place] = f"{name}.{node.name}.fp32"
                    before.append(_cast(name, node.input[place], TensorProto.FLOAT))
            for place, name in enumerate(node.output):
                if types.get(name) == TensorProto.FLOAT:
                    node.output[place] = f"{name}.fp32"
                    after.append(_cast(node.output[place], name, TensorProto.FLOAT16))
        nodes.extend([*before, node, *after])
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], f"{target}.cast", to=kind)


def _cast_states(graph: onnx.ModelProto) -> None:
    """A sequence model hands its state on in float32, whatever it computes in."""
    nodes = list(graph.graph.node)
    if any(value.name == "state" for value in graph.graph.input):
        for node, place in readers(graph)["state"]:
            node.input[place] = "state.fp16"
        for node in nodes:
            node.output[:] = ["next_state.fp16" if name == "next_state" else name for name in node.output]
            node.input[:] = ["next_state.fp16" if name == "next_state" else name for name in node.input]
        nodes.insert(0, _cast("state", "state.fp16", TensorProto.FLOAT16))
        nodes.append(_cast("next_state.fp16", "next_state", TensorProto.FLOAT))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
