"""Load a model file and check that it keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rtseg.errors import ModelError
from rtseg.model_file.spec import _KEY, _LONGEST_TAIL, _MAX_BYTES, ModelSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["ModelFile", "load_model"]


@dataclass(frozen=True, slots=True, eq=False)
class ModelFile:
    """A model file, read and checked."""

    path: Path
    spec: ModelSpec
    graph: onnx.ModelProto

    @property
    def state_shape(self) -> tuple[int, int, int] | None:
        """(D, h, w) of the state that a sequence model hands from frame to frame; None for every other model."""
        for value in self.graph.graph.output:
            if value.name == "next_state":
                depth, height, width = _shape(value)[1:]
                return depth, height, width
        return None


def load_model(path: Path) -> ModelFile:
    """Read the model file at ``path`` and check the contract of its graph.

    Raises:
        ModelError: no such file, not ONNX, weights outside the file, another contract, or no metadata.
    """
    graph = _load_graph(path)
    spec = _spec_of(graph, path)
    _check_contract(graph, spec, path)
    return ModelFile(path, spec, graph)


def _load_graph(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file without following references to other files.

    Raises:
        ModelError: no such file, empty, not ONNX, or its weights lie outside it.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    if not path.is_file():
        raise ModelError(f"no model file at {path}; give an .onnx file made by `rtseg export`")
    if not 0 < path.stat().st_size < _MAX_BYTES:
        raise ModelError(f"{path} is empty or larger than 2 GB: not a model file of rtseg")
    try:
        # The format is said, else onnx goes by the suffix: a .json or .txt would be read as another one.
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise ModelError(f"{path} is not an ONNX file or is damaged: export it again with `rtseg export`") from error
    if not model.graph.node:
        raise ModelError(f"{path} is not an ONNX file or is damaged: it holds no graph; export it again")
    # A path in an untrusted file could point anywhere on this machine.
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise ModelError(f"{path} keeps weights in another file, which is refused: save it as a single ONNX file")
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a model: weights, and constants in nodes, of every subgraph and function."""
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


def _spec_of(model: onnx.ModelProto, path: Path) -> ModelSpec:
    for entry in model.metadata_props:
        if entry.key == _KEY:
            try:
                return ModelSpec.from_json(entry.value)
            except ModelError as error:
                raise ModelError(f"{path}: {error}") from error
    raise ModelError(f"{path} has no rtseg metadata: make a model file with `rtseg export`")


def _check_contract(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
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
    for what, values, name, tail in (
        ("input", inputs, "frames", [height, width, spec.channels]),
        ("output", outputs, "labels", [height, width]),
    ):
        wanted = f"one {what} {name}: uint8 (N, {', '.join(map(str, tail))})"
        found = "; ".join(f"{v.name}: {_kind(v)} {_shape(v)}" for v in values) or "none"
        good = (
            len(values) == 1
            and values[0].name == name
            and values[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
            and _shape(values[0])[1:] == tail
        )
        if not good:
            raise ModelError(f"{path} has another contract: wanted {wanted}, found {found}")
    predicted = _predicted_classes(model.graph)
    if predicted is not None and predicted != len(spec.classes):
        raise ModelError(f"{path} predicts {predicted} classes but names {len(spec.classes)}: export it again")


def _check_states(states: list[onnx.ValueInfoProto], following: list[onnx.ValueInfoProto], path: Path) -> None:
    import onnx

    shapes = [_shape(value) for value in (*states, *following)]
    good = (
        len(states) == len(following) == 1
        and all(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for value in (*states, *following))
        and all(len(shape) == 4 and min(shape[1:]) > 0 and shape[1:] == shapes[0][1:] for shape in shapes)
    )
    if not good:
        found = "; ".join(f"{v.name}: {_kind(v)} {_shape(v)}" for v in (*states, *following))
        wanted = "an input state and an output next_state: float (N, D, h, w) both, with D, h and w fixed and the same"
        raise ModelError(f"{path} has another contract: wanted {wanted}, found {found}")


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _kind(value: onnx.ValueInfoProto) -> str:
    from onnx import TensorProto

    number = value.type.tensor_type.elem_type
    kinds = TensorProto.DataType
    return kinds.Name(number).lower() if number in kinds.values() else f"type {number}"


def _predicted_classes(graph: onnx.GraphProto) -> int | None:
    """Channels of the last convolution before the labels; None where something else than a tail lies between."""
    makers = {output: node for node in graph.node for output in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}

    last = makers.get("labels")
    for _ in range(_LONGEST_TAIL):  # bounded: a graph that nobody checked may bite its own tail
        if last is not None and last.op_type in ("ArgMax", "Cast", "Identity", "Resize"):
            last = makers.get(last.input[0])
    if last is None or last.op_type != "Conv":
        return None
    caster = makers.get(last.input[1])  # kernels stored as fp16 are cast back
    kernel = weights.get(caster.input[0] if caster is not None and caster.op_type == "Cast" else last.input[1])
    return kernel.dims[0] if kernel is not None else None
