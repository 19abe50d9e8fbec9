"""Reads a foreign ONNX file, with weights that lie beside it, and refuses what rtseg cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import numpy_helper

from rtseg.errors import ModelError
from rtseg.model_file.load import all_tensors
from rtseg.model_file.spec import METADATA_KEY
from rtseg.model_file.structure import check_structure
from rtseg.system.read_file import read_bytes

__all__ = ["read_foreign"]

_MAX_BYTES = 1 << 31
"""Protobuf cannot parse or write larger files."""
_STANDARD = ("", "ai.onnx")
_RANDOM = ("RandomUniform", "RandomUniformLike", "RandomNormal", "RandomNormalLike", "Bernoulli", "Multinomial")


def read_foreign(path: Path, allowed_folder: Path | None = None) -> onnx.ModelProto:
    """Read an ONNX file into memory, as it is, with all weights inside.

    Args:
        path: the file.
        allowed_folder: weights stored in other files are read from here, or from the folder of the file.

    Raises:
        ModelError: it is no ONNX file, is a model file of rtseg already, needs operators that are not those of ONNX,
            has weights that are NaN, infinite or missing, or is larger than 2 GB.
    """
    model = _parse(path)
    if any(entry.key == METADATA_KEY for entry in model.metadata_props):
        raise ModelError(f"{path} is a model file of rtseg already: use it as it is")
    _merge_external(model, path, allowed_folder)
    _check_operators(model, path)
    try:
        check_structure(model)
    except ModelError as error:
        raise ModelError(f"{path} {error}") from error
    _check_weights(model, path)
    return model


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(f"no model at {path}: give an .onnx file")
    size = path.stat().st_size
    if not 0 < size < _MAX_BYTES:
        raise ModelError(f"{path} {'is empty' if size == 0 else 'is larger than 2 GB'}: give another .onnx file")
    try:
        # Without ``format``, onnx would parse a .json or .txt file as another format.
        model = onnx.load_model_from_string(read_bytes(path, _MAX_BYTES), format="protobuf")
    except (DecodeError, ValueError, OSError) as error:
        raise ModelError(f"{path} is not an ONNX file or is damaged: {_advice(path)}") from error
    if not model.graph.node:
        raise ModelError(f"{path} is not an ONNX file or is damaged, it has no graph: {_advice(path)}")
    return model


def _advice(path: Path) -> str:
    if path.suffix in (".pth", ".pt", ".ckpt", ".safetensors", ".bin"):
        return (
            "export the network to ONNX first, e.g. with torch.onnx.export; weights for a network of `rtseg models` "
            f"are imported with `rtseg import rtseg:NETWORK --weights {path.name}`"
        )
    if path.suffix in (".pb", ".h5", ".keras", ".pdmodel", ".pdiparams"):
        return f"convert it to ONNX first, e.g. with {'paddle2onnx' if 'pd' in path.suffix else 'tf2onnx'}"
    return "export it again"


def _merge_external(model: onnx.ModelProto, path: Path, allowed_folder: Path | None) -> None:
    """Load the tensors that are stored in other files, and forget the other files."""
    external = [t for t in all_tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL]
    total = path.stat().st_size
    for tensor in external:
        facts = {entry.key: entry.value for entry in tensor.external_data}
        file = _find_external(facts.get("location", ""), path, allowed_folder)
        try:
            offset = int(facts.get("offset") or 0)
            length = int(facts.get("length") or file.stat().st_size - offset)
        except ValueError as error:
            raise ModelError(f"{path} refers to its weights by a broken position: export it again") from error
        total += length
        if offset < 0 or not 0 <= length <= file.stat().st_size - offset or total >= _MAX_BYTES:
            raise ModelError(f"{path} refers to weights outside {file.name}, or to more than 2 GB: export it again")
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        del tensor.external_data[:]
        tensor.ClearField("data_location")


def _find_external(location: str, path: Path, allowed_folder: Path | None) -> Path:
    """Return a file with weights. A path in an untrusted file could point to any file of this machine."""
    name = Path(location)
    if not location or name.is_absolute() or ".." in name.parts:
        raise ModelError(f"{path} stores weights in {location!r}, which is refused: put the file beside the model")
    for folder in (path.parent, *([] if allowed_folder is None else [allowed_folder])):
        file = folder / name
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return file
    raise ModelError(
        f"{path} stores weights in {location!r}, which is not beside it: put it there, or name its folder with "
        "--allow-external FOLDER"
    )


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    """Refuse operators that no runtime knows without a plugin, and those whose result is random."""
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    custom = {
        f"{node.op_type} ({node.domain})"
        for node in nodes
        if node.domain not in _STANDARD and (node.domain, node.op_type) not in own
    }
    random = sorted({node.op_type for node in nodes} & {*_RANDOM})
    if random:
        raise ModelError(
            f"{path} computes with random numbers ({', '.join(random)}): it was exported in training mode, call "
            "eval() of the network before its export"
        )
    if custom:
        shown = ", ".join(sorted(custom)[:3])
        raise ModelError(f"{path} needs operators that are not those of ONNX: {shown}: export it without plugins")


def _check_weights(model: onnx.ModelProto, path: Path) -> None:
    for tensor in model.graph.initializer:
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{path} has a damaged weight {tensor.name!r}: export it again") from error
        if np.issubdtype(values.dtype, np.floating) and np.isnan(values).any():
            raise ModelError(f"{path} has weights that are NaN ({tensor.name!r}): its training failed")
