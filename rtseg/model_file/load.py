"""Loads a model file and checks its inputs, outputs and metadata, see ``rtseg.model_file.spec``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.errors import ModelError
from rtseg.model_file.background import resolve_backgrounds
from rtseg.model_file.foreign import foreign_message
from rtseg.model_file.spec import METADATA_KEY, ModelSpec
from rtseg.system.read_file import read_bytes

if TYPE_CHECKING:
    import onnx

__all__ = ["ModelFile", "all_tensors", "load_model"]

_MAX_BYTES = 1 << 31
"""Protobuf cannot parse larger files."""
_MAX_NODES_AFTER_LOGITS = 8


@dataclass(frozen=True, slots=True, eq=False)
class ModelFile:
    """A model file, loaded and checked."""

    path: Path
    spec: ModelSpec
    graph: onnx.ModelProto

    @property
    def state_shape(self) -> tuple[int, int, int] | None:
        """(D, h, w) of the state of a sequence model; None for other models."""
        for value in self.graph.graph.output:
            if value.name == "next_state":
                depth, height, width = _shape(value)[1:]
                return depth, height, width
        return None


def load_model(path: Path) -> ModelFile:
    """Load a model file and check its graph.

    Raises:
        ModelError: the file is missing, is not ONNX, has weights in another file, has invalid nodes or a cycle, has
            other inputs or outputs than a model file, lacks metadata, or names a background outside its folder.
    """
    graph = _load_graph(path)
    _forget_margin(graph)
    try:
        spec = resolve_backgrounds(_read_spec(graph), path.parent)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    _check_inputs_and_outputs(graph, spec, path)
    _check_structure(graph, path)
    predicted = _count_predicted_classes(graph.graph)
    if predicted is not None and predicted != len(spec.classes):
        raise ModelError(f"{path} predicts {predicted} classes but names {len(spec.classes)}: export it again")
    return ModelFile(path, spec, graph)


def _forget_margin(graph: onnx.ModelProto) -> None:
    """Remove the output ``margin``: a backend that is asked for it adds it to whatever graph it runs."""
    from rtseg.model_file.margin import remove_margin

    remove_margin(graph)


def _load_graph(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file without reading other files that it refers to."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    if not path.is_file():
        raise ModelError(f"no model file at {path}; give an .onnx file made by `rtseg export`")
    if not 0 < path.stat().st_size < _MAX_BYTES:
        raise ModelError(f"{path} is empty or larger than 2 GB: not a model file of rtseg")
    try:
        # Without ``format``, onnx would parse a .json or .txt file as another format.
        model = onnx.load_model_from_string(read_bytes(path, _MAX_BYTES), format="protobuf")
    except (DecodeError, ValueError, OSError) as error:
        raise ModelError(f"{path} is not an ONNX file or is damaged: export it again with `rtseg export`") from error
    if not model.graph.node:
        raise ModelError(f"{path} is not an ONNX file or is damaged: it has no graph; export it again")
    if all(entry.key != METADATA_KEY for entry in model.metadata_props):
        raise ModelError(foreign_message(model, path))
    # A path in an untrusted file could point to any file of this machine.
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in all_tensors(model)):
        raise ModelError(f"{path} stores weights in another file, which is refused: save it as a single ONNX file")
    return model


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors of a model: weights, and constants in nodes, of every subgraph and function."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes.extend(graph.node)
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            continue
        for attribute in nodes.pop().attribute:
            graphs.extend((attribute.g, *attribute.graphs))
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _read_spec(model: onnx.ModelProto) -> ModelSpec:
    return ModelSpec.from_json(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY))


def _check_structure(model: onnx.ModelProto, path: Path) -> None:
    from rtseg.model_file.structure import check_structure

    try:
        check_structure(model)
    except ModelError as error:
        raise ModelError(f"{path} {error}: it is not a model file of rtseg") from error


def _check_inputs_and_outputs(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    outputs = list(model.graph.output)
    states = [value for value in inputs if value.name == "state"]
    next_states = [value for value in outputs if value.name == "next_state"]
    if states or next_states:
        _check_states(states, next_states, path)
        inputs.remove(states[0])
        outputs.remove(next_states[0])
    height, width = spec.size
    for kind, values, name, shape in (
        ("input", inputs, "frames", [height, width, spec.channels]),
        ("output", outputs, "labels", [height, width]),
    ):
        is_valid = (
            len(values) == 1
            and values[0].name == name
            and values[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
            and _shape(values[0])[1:] == shape
        )
        if not is_valid:
            expected = f"one {kind} {name}: uint8 (N, {', '.join(map(str, shape))})"
            raise ModelError(f"{path} is not a model file of rtseg: expected {expected}, got {_describe(values)}")


def _check_states(states: list[onnx.ValueInfoProto], next_states: list[onnx.ValueInfoProto], path: Path) -> None:
    import onnx

    values = [*states, *next_states]
    shapes = [_shape(value) for value in values]
    is_valid = (
        len(states) == len(next_states) == 1
        and all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in values)
        and all(len(shape) == 4 and min(shape[1:]) > 0 and shape[1:] == shapes[0][1:] for shape in shapes)
    )
    if not is_valid:
        expected = "an input state and an output next_state: both float (N, D, h, w) with the same fixed D, h and w"
        raise ModelError(f"{path} is not a model file of rtseg: expected {expected}, got {_describe(values)}")


def _describe(values: list[onnx.ValueInfoProto]) -> str:
    return "; ".join(f"{value.name}: {_type_name(value)} {_shape(value)}" for value in values) or "none"


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _type_name(value: onnx.ValueInfoProto) -> str:
    from onnx import TensorProto

    number = value.type.tensor_type.elem_type
    types = TensorProto.DataType
    return types.Name(number).lower() if number in types.values() else f"type {number}"


def _count_predicted_classes(graph: onnx.GraphProto) -> int | None:
    """Return the channels of the last convolution before the labels; None if other nodes follow it."""
    producers = {output: node for node in graph.node for output in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    node = producers.get("labels")
    for _ in range(_MAX_NODES_AFTER_LOGITS):
        if node is not None and node.op_type in ("ArgMax", "Cast", "Identity", "Resize"):
            node = producers.get(node.input[0])
    if node is None or node.op_type != "Conv":
        return None
    cast = producers.get(node.input[1])  # the kernel may be stored as fp16 and cast
    kernel = weights.get(cast.input[0] if cast is not None and cast.op_type == "Cast" else node.input[1])
    return kernel.dims[0] if kernel is not None else None
