"""Checks the structure of an untrusted graph, in time proportional to its size, before anything else reads it.

The runtimes and the conversions of rtseg assume what is checked here. A graph that violates it could make them fail
with an error that says nothing, use all memory, or never end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import defs

from rtseg.errors import ModelError
from rtseg.model_file.tensor_sizes import check_tensor_sizes

__all__ = ["check_structure"]

_MAX_NODES = 100_000
"""Nodes of a graph with all functions expanded. The largest network of rtseg has about 600."""
_STANDARD = ("", "ai.onnx")
_UNBOUNDED = ("Loop", "Scan")

_FunctionId = tuple[str, str]
_Functions = dict[_FunctionId, onnx.FunctionProto]


def check_structure(model: onnx.ModelProto) -> None:
    """Check that a graph is sorted, has valid nodes, and stays small in memory and when its functions are expanded.

    Raises:
        ModelError: it does not; the message is the rest of a sentence that begins with the name of the file.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    version = max((each.version for each in model.opset_import if each.domain in _STANDARD), default=1)
    _check_expanded_size(model, functions)
    _check_graph(model.graph, set(), functions, version)
    for function in functions.values():
        _check_nodes(function.node, set(function.input), functions, version)
    check_tensor_sizes(model)


def _check_expanded_size(model: onnx.ModelProto, functions: _Functions) -> None:
    sizes: dict[_FunctionId, int | None] = {}

    def size_of(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        return sum(1 + size_of_call((node.domain, node.op_type), depth) for node in _with_subgraphs(nodes))

    def size_of_call(name: _FunctionId, depth: int) -> int:
        if name not in functions:
            return 0
        if name not in sizes:
            sizes[name] = None
            sizes[name] = size_of(functions[name].node, depth + 1) if depth < 100 else None
        size = sizes[name]
        if size is None:
            raise ModelError(f"has a function {name[1]!r} that calls itself, or is nested too deeply")
        return size

    size = size_of(model.graph.node, 0)
    if size > _MAX_NODES:
        raise ModelError(f"has more than {_MAX_NODES} nodes if its functions are expanded")


def _with_subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                stack.extend(graph.node)


def _check_graph(graph: onnx.GraphProto, outer: set[str], functions: _Functions, version: int) -> None:
    known = outer | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    _check_nodes(graph.node, known, functions, version)
    for value in graph.output:
        if value.name not in known:
            raise ModelError(f"has an output {value.name!r} that no node produces")


def _check_nodes(nodes: Iterable[onnx.NodeProto], known: set[str], functions: _Functions, version: int) -> None:
    """Check nodes in the order of the graph. ``known`` are the tensors before it; those of the nodes are added."""
    for node in nodes:
        _check_texts(node)
        missing = [name for name in node.input if name and name not in known]
        if missing:
            raise ModelError(f"has a node {_title(node)} that reads {missing[0]!r} before it exists, or in a cycle")
        if node.domain in _STANDARD and (node.domain, node.op_type) not in functions:
            _check_operator(node, version)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _check_graph(attribute.g, known, functions, version)
            for graph in attribute.graphs:
                _check_graph(graph, known, functions, version)
        known.update(name for name in node.output if name)


def _check_texts(node: onnx.NodeProto) -> None:
    """Check that all names are text: protobuf returns bytes where they are not UTF-8."""
    names = (node.name, node.op_type, node.domain, *node.input, *node.output, *(each.name for each in node.attribute))
    if any(isinstance(name, bytes) for name in names):
        raise ModelError(f"has a node {_title(node)} with a name that is not UTF-8")


def _check_operator(node: onnx.NodeProto, version: int) -> None:
    """Check a standard node: that it is known, may not run for ever, and has its inputs and outputs."""
    if node.op_type in _UNBOUNDED:
        raise ModelError(f"has a node {_title(node)}, which may run for ever: export it without loops")
    try:
        schema = defs.get_schema(node.op_type, version, "")
    except defs.SchemaError as error:
        raise ModelError(f"has a node {_title(node)} that ONNX {version} does not have") from error
    is_valid = (
        schema.min_input <= len(node.input) <= schema.max_input
        and schema.min_output <= len(node.output) <= schema.max_output
        and all(node.input[: schema.min_input])
    )
    if not is_valid:
        raise ModelError(f"has a node {_title(node)} with {len(node.input)} inputs and {len(node.output)} outputs")


def _title(node: onnx.NodeProto) -> str:
    return f"{node.name!r} ({node.op_type!r})"
