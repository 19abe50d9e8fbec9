"""Save and load training state as safetensors, with plain values in the header: loading one never runs code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rtseg.errors import CheckpointError, SinkError
from rtseg.models import create_model
from rtseg.models.base import Network
from rtseg.models.mmseg_names import from_mmseg
from rtseg.models.pretrained import fit_weights
from rtseg.system.atomic_files import atomic_path
from rtseg.training.data import BEST, LAST
from rtseg.training.model_weights import load_model_weights

__all__ = [
    "head_weights",
    "load_checkpoint",
    "load_initial_weights",
    "network_from_checkpoint",
    "read_foreign_weights",
    "save_checkpoint",
    "strip_wrapper_prefixes",
    "under_prefix",
]

_METADATA_KEY = "rtseg"
"""Metadata entry of the safetensors header with all values that are not tensors, as JSON."""
_REQUIRED = ("network", "architecture", "classes", "palette")
_FOREIGN_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".h5")
_TENSOR, _PAIRS = "__tensor__", "__pairs__"
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
"""Suffixes of files that torch writes as pickles."""
_MAX_PREFIX = 2
"""Parts of the names that a wrapper may put in front, e.g. ``model.net.``."""
_WEIGHT_KEYS = ("model", "state_dict", "model_state_dict", "network")
"""Keys under which other programs' checkpoints store the weights."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: a killed run leaves either the old or the new file.

    Args:
        path: the file, usually ``.safetensors``.
        state: tensors and JSON values in dicts and lists of any depth.

    Raises:
        SinkError: the file cannot be written; an existing file is unchanged.
    """
    tensors: dict[str, Tensor] = {}
    values = _extract_tensors(state, "", tensors)
    try:
        with atomic_path(path, sync=True) as part:
            part.write_bytes(save(tensors, metadata={_METADATA_KEY: json.dumps(values)}))
    except OSError as error:
        raise SinkError(f"cannot write {path} ({error.strerror}): make room, or give another --output") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU.

    Raises:
        CheckpointError: the file does not exist, is damaged, or is not a checkpoint of rtseg.
    """
    state = _load_safetensors(path)
    missing = [key for key in _REQUIRED if key not in state]
    if missing:
        raise CheckpointError(f"{path} is not a checkpoint of rtseg: it lacks {', '.join(missing)}")
    return state


def _load_safetensors(path: Path) -> dict[str, Any]:
    """Return the content of the file; for a file of another program, its tensors under ``network``."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; `rtseg train` writes {BEST} and {LAST} into its run folder")
    try:
        with safe_open(path, framework="pt") as file:
            values = (file.metadata() or {}).get(_METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict
        if values is None:
            return {"network": tensors}
        state = _insert_tensors(json.loads(values), tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is {_what_it_may_be(path)}") from error
    return state if isinstance(state, dict) else {}


def _what_it_may_be(path: Path) -> str:
    """Return the rest of a sentence about a file that is no checkpoint of rtseg, with the next step."""
    if path.suffix == ".onnx":
        return f"an ONNX file, not a checkpoint of `rtseg train`: `rtseg import {path}` makes a model file of it"
    if path.suffix in _FOREIGN_SUFFIXES:
        return (
            "no checkpoint of `rtseg train`: of another program's network, make an ONNX file with torch.onnx.export, "
            "and a model file of that with `rtseg import FILE.onnx --classes NAME,NAME,...`; weights for a network of "
            f"`rtseg models` become one with `rtseg import rtseg:NETWORK --weights {path.name} --classes NAME,NAME,...`"
        )
    return "damaged or not a checkpoint of rtseg: give another one"


def _extract_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return ``value`` for JSON; every tensor in it is moved to ``tensors``, named by its position."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        items = {key: _extract_tensors(item, f"{name}.{key}".lstrip("."), tensors) for key, item in value.items()}
        if all(isinstance(key, str) for key in items):
            return items
        return {_PAIRS: [list(pair) for pair in items.items()]}  # optimizer states have int keys, JSON only strings
    if isinstance(value, list | tuple):
        return [_extract_tensors(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
    return value


def _insert_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Reverse ``_extract_tensors``; tuples have become lists."""
    if isinstance(value, list):
        return [_insert_tensors(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _PAIRS in value:
        return {key: _insert_tensors(item, tensors) for key, item in value[_PAIRS]}
    return {key: _insert_tensors(item, tensors) for key, item in value.items()}


def network_from_checkpoint(state: dict[str, Any], path: Path) -> Network:
    """Build the network of a checkpoint with its averaged (EMA) weights, in evaluation mode.

    Raises:
        CheckpointError: the weights do not fit the architecture in the checkpoint.
    """
    try:
        network = create_model(state["architecture"], len(state["classes"]))
        network.load_state_dict(strip_wrapper_prefixes(state["network"]))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the weights in {path} do not fit {state['architecture']!r} of this rtseg") from error
    return network.eval()


def load_initial_weights(network: Network, path: Path, classes: tuple[str, ...], images: Iterable[Tensor] = ()) -> str:
    """Load the weights of a checkpoint or a model file, which may have other classes.

    The heads, whose shape depends on the number of classes, keep their fresh weights if the classes differ. So do
    auxiliary heads and ``Network.optional_parts`` that the checkpoint lacks. The first convolution is adapted to
    another number of channels.

    Args:
        network: made by ``create_model``.
        path: a checkpoint or a model file of rtseg, or another program's ``.safetensors``, ``.pt``, ``.pth`` or
            ``.ckpt`` file whose weights have the same names (those of torchvision, for its networks), perhaps with a
            prefix like ``model.``; for DDRNet, PIDNet and SCTNet also those of mmsegmentation.
        classes: names of the classes of ``network``.
        images: batches of training images for a model file, see ``network_from_model``.

    Returns:
        A sentence about the weights that start fresh; empty if there are none.

    Raises:
        CheckpointError: the file does not exist, is damaged, or is of another network.
        ModelError: the model file cannot be used.
    """
    state = _load_initial(path, images)
    own = network.state_dict()
    try:
        weights = from_mmseg(strip_wrapper_prefixes(state["network"]), network.architecture)
        weights = under_prefix(weights, own)
        heads = head_weights(network)
        same_classes = tuple(state["classes"]) == classes if "classes" in state else _same_shapes(own, weights, heads)
        fresh = set() if same_classes else heads
        weights = {name: value for name, value in weights.items() if name not in fresh}
        optional = (*network.auxiliary, *network.optional_parts)
        fresh |= {name for name in own if name.startswith(optional) and name not in weights}
        network.load_state_dict({**{name: own[name] for name in fresh}, **fit_weights(own, weights)})
    except (CheckpointError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        content = repr(state["architecture"]) if "architecture" in state else "weights"
        reason = f" ({error})" if isinstance(error, CheckpointError) else ""
        raise CheckpointError(f"{path} holds {content}, which does not fit{reason}: give its --model") from error
    if not fresh:
        return ""
    other = f"{len(state['classes'])} other classes" if "classes" in state else "another number of classes"
    reason = "it lacks parts of this network" if same_classes else f"it has {other}"
    return f"{path}: {reason}; {', '.join(sorted(fresh))} start with fresh weights for {len(classes)} classes"


def _load_initial(path: Path, images: Iterable[Tensor]) -> dict[str, Any]:
    if path.suffix == ".onnx":
        return load_model_weights(path, images)
    return _load_pickle(path) if path.suffix in _PICKLES else _load_safetensors(path)


def read_foreign_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights in another program's file, by name.

    Raises:
        CheckpointError: the file does not exist, is damaged, or holds something else.
    """
    state = _load_pickle(path) if path.suffix in _PICKLES else _load_safetensors(path)
    weights = state.get("network")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path} holds no weights by name: give a file with a state dict")
    return weights


def under_prefix(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights below the prefix, e.g. ``model.`` of Lightning, with which most names are those of ``own``.

    What such a program stores beside the network, e.g. weights of its loss, is left out.
    """
    below = {"": weights}
    for name in weights:
        parts = name.split(".")
        for depth in range(1, min(_MAX_PREFIX, len(parts) - 1) + 1):
            below.setdefault(".".join(parts[:depth]) + ".", {})
    for prefix in below:
        below[prefix] = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
    matching = {prefix: sum(name in own for name in names) for prefix, names in below.items()}
    best = max(matching, key=lambda prefix: matching[prefix])  # the first of equal ones, so no prefix if none is better
    return below[best]


def _load_pickle(path: Path) -> dict[str, Any]:
    """Load weights that another program saved with torch; return them under ``network``."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; give a file with weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol: loading succeeds or fails in any case
            state = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle can raise anything in torch: IndexError, struct.error, AssertionError ..
    except Exception as error:
        raise CheckpointError(
            f"{path} is no checkpoint: it is damaged, or holds more than weights: give another one"
        ) from error
    for key in _WEIGHT_KEYS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return {"network": state}


def _same_shapes(own: dict[str, Tensor], weights: dict[str, Tensor], names: set[str]) -> bool:
    return all(name not in weights or weights[name].shape == own[name].shape for name in names)


def strip_wrapper_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the name prefixes that DistributedDataParallel and torch.compile add."""
    for prefix in ("module.", "_orig_mod.", "module."):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def head_weights(network: Network) -> set[str]:
    """Return the names of the weights whose shape depends on the number of classes."""
    with torch.device("meta"):
        other = create_model(network.architecture, network.classes % 255 + 1).state_dict()
    return {name for name, value in network.state_dict().items() if value.shape != other[name].shape}
