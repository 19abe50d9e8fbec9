"""Brings a foreign graph into the form that the rest of rtseg expects, without a change of what it computes."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import TensorProto, helper, inliner, version_converter

from rtseg.errors import ModelError
from rtseg.model_file.foreign import graph_inputs

__all__ = ["BATCH", "fix_input_size", "normalize_graph", "prune", "rename"]

BATCH = "N"
"""Name of the length of the batch."""
_OPSET, _OLDEST_OPSET = 17, 13
"""Quantization per channel needs 13; every runtime reads 17."""
_FIRST_RESIZE_WITH_MODES = 11
_IR = 8


def normalize_graph(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return a copy with current versions, without functions, and what was changed, for a message.

    Weights are no inputs any more; notes of the exporter and shapes of intermediate tensors are removed.

    Raises:
        ModelError: the graph is too old to be converted.
    """
    changes: list[str] = []
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        copy = inliner.inline_local_functions(copy)
        changes.append("functions inlined")
    inputs = graph_inputs(copy)
    if len(inputs) != len(copy.graph.input):
        kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
        del copy.graph.input[:]
        copy.graph.input.extend(kept)
        changes.append("weights are no inputs")
    if copy.ir_version < _IR:
        changes.append(f"IR {copy.ir_version} -> {_IR}")
        copy.ir_version = _IR
    version = max((each.version for each in copy.opset_import if each.domain in ("", "ai.onnx")), default=1)
    if version < _OLDEST_OPSET:
        copy = _convert_version(copy, version)
        changes.append(f"opset {version} -> {_OPSET}")
    if any(t.data_type == TensorProto.FLOAT16 for t in copy.graph.initializer):
        changes.append("fp16 weights kept")
    _remove_constants(copy.graph)
    _strip(copy)
    return copy, changes


def _convert_version(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    try:
        converted = version_converter.convert_version(model, _OPSET)
    except (RuntimeError, ValueError, version_converter.ConvertError) as error:
        raise ModelError(
            f"the graph is of opset {version} and cannot be converted to {_OPSET} "
            f"({str(error).splitlines()[0][:120]}): export it again with opset 13 to 21"
        ) from error
    if version < _FIRST_RESIZE_WITH_MODES:
        _set_old_resize_modes(converted.graph)
    return converted


def _set_old_resize_modes(graph: onnx.GraphProto) -> None:
    """Let every Resize compute what Upsample and Resize of opset 7 to 10 do; the converter of onnx 1.23 does not."""
    for node in graph.node:
        if node.op_type == "Resize" and all(a.name != "coordinate_transformation_mode" for a in node.attribute):
            node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(helper.make_attribute("nearest_mode", "floor"))


def _remove_constants(graph: onnx.GraphProto) -> None:
    """Make an initializer of every node that is a constant tensor."""
    nodes = []
    for node in graph.node:
        tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type != "Constant" or tensor is None:
            nodes.append(node)
            continue
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = node.output[0]
    del graph.node[:]
    graph.node.extend(nodes)


def _strip(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""


def fix_input_size(model: onnx.ModelProto, sizes: tuple[int, ...], batch: int | str) -> None:
    """Set the shape of the only input to ``batch`` and ``sizes``, and forget the declared shapes of the outputs."""
    (value,) = model.graph.input
    kind = value.type.tensor_type.elem_type
    value.CopyFrom(helper.make_tensor_value_info(value.name, kind, [batch, *sizes]))
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def prune(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that no output of the graph needs."""
    needed = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        nodes.append(node)
        needed.update(_inputs_of(node))
    nodes.reverse()
    del graph.node[:]
    graph.node.extend(nodes)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _inputs_of(node: onnx.NodeProto) -> set[str]:
    """Return what a node reads, with the tensors that its subgraphs may read from outside."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _inputs_of(inner)
            names.update(value.name for value in graph.output)
    return names


def rename(graph: onnx.GraphProto, taken: set[str]) -> None:
    """Rename tensors whose names are in ``taken``, everywhere, also in subgraphs."""
    counts = Counter(name for node in graph.node for name in (*node.input, *node.output))
    names = {name: f"model/{name}" for name in taken}
    while any(name in counts for name in names.values()):
        names = {name: f"model/{new}" for name, new in names.items()}
    _rename(graph, names)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for value in [*graph.input, *graph.output, *graph.initializer]:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)
