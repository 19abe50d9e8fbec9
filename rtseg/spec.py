"""What a model file says about itself, and the contract of its graph.

A model file is an ONNX graph with one input and one output::

    frames : uint8 (N, H, W, C), C = 3: BGR   H, W and C fixed
    labels : uint8 (N, H, W), class ids       255 is never predicted

C is 4 where a plane beside BGR is needed (alpha, infrared, depth), 2 where one beside grey is; ``rtseg.pictures`` says
how files hold it. A network that sees grey alone is given BGR and mixes it.

A sequence model, whose labels hang on the frames before as well, has one more of each, and no other form is allowed::

    state      : float32 (N, D, h, w), zeros at first   D, h and w fixed
    next_state : float32 (N, D, h, w)                   the ``state`` that goes with the next frame

Normalisation, upsampling and argmax are inside the graph. Everything else that a user of the model must
know is one JSON text under the key ``rtseg`` of the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtseg.errors import ModelError
from rtseg.frame import CHANNELS

if TYPE_CHECKING:
    import onnx

__all__ = ["VOID", "ModelFile", "ModelSpec", "file_sha256", "load_model", "write_spec"]

VOID = 255
"""Label of pixels without a class. Never predicted."""

_KEY = "rtseg"
_FORMAT = 1
_LONGEST_TAIL = 8
_MAX_BYTES = 1 << 31  # protobuf's own bound: a larger file cannot be parsed


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The metadata of a model file.

    Raises:
        ModelError: classes and palette differ in length, there are none or more than 255, names repeat or are no
            texts, a colour is not three values of 0..255, the size is not positive, or channels are not 2 to 4.
    """

    name: str
    """E.g. ``icnet-camvid``."""
    classes: tuple[str, ...]
    """Name of class i at place i."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB colour of class i at place i, values 0..255."""
    size: tuple[int, int]
    """(H, W) of the graph's input, in pixels."""
    channels: int = 3
    """The last dimension of the graph's input; see ``rtseg.frame.Picture``."""
    preprocess: tuple[str, ...] = ()
    """Steps after resizing, in order, e.g. ``clahe:clip=2,tiles=8``; see ``rtseg.preprocess``."""
    architecture: str = ""
    """What ``create_model`` builds it from, e.g. ``icnet`` or ``icnet:width=64``; empty for a graph of other origin."""
    trained_on: str = ""
    """The training data, in words."""
    licence: str = ""
    """What the weights may be used for, in words."""
    miou: float | None = None
    """Measured mean IoU, in [0, 1]; None if nobody measured it."""
    measured_on: str = ""
    """The data, split and size that ``miou`` was measured on."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further facts (recipe, seed, epochs): kept, shown, never acted on."""

    def __post_init__(self) -> None:
        texts = (self.name, self.architecture, self.trained_on, self.licence, self.measured_on)
        if not all(isinstance(text, str) for text in (*texts, *self.classes, *self.preprocess)):
            raise ModelError("names, classes, steps and remarks of a model must be texts")
        if self.miou is not None and not isinstance(self.miou, int | float):
            raise ModelError(f"miou must be a number in [0, 1], got {self.miou!r}")
        if not 1 <= len(self.classes) <= VOID:
            raise ModelError(f"a model has 1 to {VOID} classes, got {len(self.classes)}")
        if len(self.palette) != len(self.classes):
            raise ModelError(f"{len(self.classes)} classes but {len(self.palette)} colours")
        if len(set(self.classes)) != len(self.classes):
            raise ModelError(f"class names repeat: {', '.join(self.classes)}")
        for name, colour in zip(self.classes, self.palette, strict=True):
            if len(colour) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in colour):
                raise ModelError(f"colour of {name!r} must be three integers of 0..255, got {colour}")
        if len(self.size) != 2 or not all(isinstance(v, int) and v > 0 for v in self.size):
            raise ModelError(f"size must be two positive integers (H, W), got {self.size}")
        if type(self.channels) is not int or self.channels not in CHANNELS:
            raise ModelError(f"channels must be {', '.join(map(str, CHANNELS))}, got {self.channels!r}")

    def class_id(self, name: str) -> int:
        """The id of a class, by its name in any case.

        Raises:
            ModelError: there is no such class; the text lists those there are.
        """
        lowered = [known.lower() for known in self.classes]
        if name.strip().lower() not in lowered:
            raise ModelError(f"{self.name} has no class {name!r}; it has {', '.join(self.classes)}")
        return lowered.index(name.strip().lower())

    def to_json(self) -> str:
        """The text that stands in the file's metadata."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read what ``to_json`` wrote.

        Raises:
            ModelError: it is not such a text, or a newer rtseg wrote it.
        """
        try:
            facts = json.loads(text)
            version = facts.pop("format")
            if version != _FORMAT:
                raise ModelError(f"metadata of format {version!r}, this rtseg reads {_FORMAT}: update rtseg")
            known = {entry.name for entry in fields(cls)}
            facts = {key: value for key, value in facts.items() if key in known}
            for key in ("classes", "size", "preprocess"):
                facts[key] = tuple(facts[key])
            facts["palette"] = tuple(tuple(colour) for colour in facts["palette"])
            return cls(**facts)
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ModelError(f"metadata cannot be read ({type(error).__name__}: {error})") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_spec(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Put ``spec`` into the metadata of ``model``, in place of any that stood there."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != _KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (_KEY, spec.to_json())]:
        model.metadata_props.add(key=key, value=value)


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
