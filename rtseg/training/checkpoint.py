"""Training state on disk: safetensors with plain values in the header, so that loading one can never run code."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rtseg.errors import CheckpointError, SinkError
from rtseg.models import create_model
from rtseg.models.base import Network
from rtseg.models.pretrained import fit
from rtseg.system.atomic_files import atomic_path

__all__ = ["BEST", "LAST", "load_initial_weights", "load_checkpoint", "network_from_checkpoint", "save_checkpoint", "strip_wrapper_prefixes"]

BEST, LAST = "best.safetensors", "last.safetensors"
"""Names in a run folder."""
_HEADER = "rtseg"
"""Key of the header's metadata that holds, as JSON, all that is no tensor."""
_KEYS = ("network", "architecture", "classes", "palette")
_TENSOR, _PAIRS = "__tensor__", "__pairs__"
_WRAPPERS = ("model", "state_dict", "model_state_dict", "network")
"""Where other programs' checkpoints keep the weights."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` beside ``path`` and rename, so that a killed run leaves the old or the new file, whole.

    Args:
        path: the file, usually ``.safetensors``.
        state: tensors and JSON values in dicts and lists of any depth.

    Raises:
        SinkError: it cannot be written; what stood there before still does.
    """
    tensors: dict[str, Tensor] = {}
    plain = _without_tensors(state, "", tensors)
    try:
        with atomic_path(path, sync=True) as part:
            part.write_bytes(save(tensors, metadata={_HEADER: json.dumps(plain)}))
    except OSError as error:
        raise SinkError(f"cannot write {path} ({error.strerror}): make room, or give another --output") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote, onto the CPU.

    Raises:
        CheckpointError: no such file, damaged, or not a checkpoint of rtseg.
    """
    state = _load_safetensors(path)
    missing = [key for key in _KEYS if key not in state]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of rtseg: it lacks {', '.join(missing)}")
    return state


def _load_safetensors(path: Path) -> dict[str, Any]:
    """All that the file holds; of another program's, its tensors under ``network``."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; `rtseg train` writes {BEST} and {LAST} into its run folder")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        if header is None:
            return {"network": tensors}
        state = _with_tensors(json.loads(header), tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged, or no checkpoint of rtseg: train again or give another") from error
    return state if isinstance(state, dict) else {}


def _without_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` for JSON, every tensor in it moved to ``tensors`` under the name of its place."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        inside = {key: _without_tensors(each, f"{name}.{key}".lstrip("."), tensors) for key, each in value.items()}
        if all(isinstance(key, str) for key in inside):
            return inside
        return {_PAIRS: [list(pair) for pair in inside.items()]}  # optimisers number their state; JSON has texts alone
    if isinstance(value, list | tuple):
        return [_without_tensors(each, f"{name}.{place}", tensors) for place, each in enumerate(value)]
    return value


def _with_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What ``_without_tensors`` took apart; tuples have become lists."""
    if isinstance(value, list):
        return [_with_tensors(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _PAIRS in value:
        return {key: _with_tensors(each, tensors) for key, each in value[_PAIRS]}
    return {key: _with_tensors(each, tensors) for key, each in value.items()}


def network_from_checkpoint(state: dict[str, Any], path: Path) -> Network:
    """The network of a checkpoint with its averaged (EMA) weights, in evaluation mode.

    Raises:
        CheckpointError: the weights do not fit the network that the checkpoint names.
    """
    try:
        network = create_model(state["architecture"], len(state["classes"]))
        network.load_state_dict(strip_wrapper_prefixes(state["network"]))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the weights in {path} do not fit {state['architecture']!r} of this rtseg") from error
    return network.eval()


def load_initial_weights(network: Network, path: Path, classes: tuple[str, ...]) -> str:
    """Load the weights of a checkpoint into a network that may know other classes.

    Weights whose shape hangs on the classes (the heads) begin anew where the classes differ, auxiliary heads and what
    ``Network.grown`` names also where the checkpoint has none. The first convolution is adapted to another number of
    channels.

    Args:
        network: made by ``create_model``.
        path: a checkpoint of rtseg, or another program's ``.safetensors``, ``.pt`` or ``.pth`` with weights under the
            same names (those of torchvision, for its networks).
        classes: names of the classes of ``network``.

    Returns:
        A sentence about what begins anew; empty if nothing does.

    Raises:
        CheckpointError: no such file, damaged, or of another network.
    """
    state = _load_pickle(path) if path.suffix in (".pt", ".pth") else _load_safetensors(path)
    own = network.state_dict()
    try:
        weights = strip_wrapper_prefixes(state["network"])
        same = tuple(state["classes"]) == classes if "classes" in state else _fits(own, weights, _heads(network))
        fresh = set() if same else _heads(network)
        weights = {name: value for name, value in weights.items() if name not in fresh}
        spared = (*network.auxiliary, *network.grown)
        fresh |= {name for name in own if name.startswith(spared) and name not in weights}
        network.load_state_dict({**{name: own[name] for name in fresh}, **fit(own, weights)})
    except (CheckpointError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        what = repr(state["architecture"]) if "architecture" in state else "weights"
        why = f" ({error})" if isinstance(error, CheckpointError) else ""
        raise CheckpointError(f"{path} holds {what}, which does not fit{why}: give its --model") from error
    if not fresh:
        return ""
    other = f"{len(state['classes'])} other classes" if "classes" in state else "another number of classes"
    why = "it has not all of this network" if same else f"it knows {other}"
    return f"{path}: {why}; {', '.join(sorted(fresh))} begin anew for {len(classes)} classes"


def _load_pickle(path: Path) -> dict[str, Any]:
    """Weights that another program saved with torch, under ``network``."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; give a file with weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's odd protocol: it fails, or it is as good as any
            state = torch.load(path, map_location="cpu", weights_only=True)
    # Of a damaged pickle torch lets through whatever its bytes lead to: IndexError, struct.error, AssertionError ..
    except Exception as error:
        raise CheckpointError(f"{path} is damaged, or holds more than weights: give another") from error
    for key in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return {"network": state}


def _fits(own: dict[str, Tensor], weights: dict[str, Tensor], heads: set[str]) -> bool:
    return all(name not in weights or weights[name].shape == own[name].shape for name in heads)


def strip_wrapper_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` without the prefixes that DistributedDataParallel and torch.compile put before every name."""
    for prefix in ("module.", "_orig_mod.", "module."):
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _heads(network: Network) -> set[str]:
    """Names of the weights whose shape hangs on the number of classes: a network with one more differs there."""
    with torch.device("meta"):
        other = create_model(network.architecture, network.classes % 255 + 1).state_dict()
    return {name for name, value in network.state_dict().items() if value.shape != other[name].shape}
