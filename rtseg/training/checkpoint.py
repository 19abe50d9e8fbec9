"""Training state on disk: tensors and plain values only, so that loading one can never run code."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtseg.errors import CheckpointError, SinkError
from rtseg.models import create_model
from rtseg.models._network import Network
from rtseg.models._published import fit

__all__ = ["begin_with", "load_checkpoint", "network_of", "save_checkpoint", "unwrapped"]

_KEYS = ("network", "architecture", "classes", "palette")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` beside ``path`` and rename, so that a killed run leaves the old or the new file, whole.

    Raises:
        SinkError: it cannot be written; what stood there before still does.
    """
    part = path.with_name(path.name + ".part")
    try:
        torch.save(state, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError on a full disk
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise SinkError(f"cannot write {path} ({_first_line(error)}): make room, or give another --output") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote, onto the CPU.

    Raises:
        CheckpointError: no such file, damaged, or not a checkpoint of rtseg.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; `rtseg train` writes best.pt and last.pt into its run folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's odd protocol: it fails, or it is as good as any
            state = torch.load(path, map_location="cpu", weights_only=True)
    # Of a damaged pickle torch lets through whatever its bytes lead to: IndexError, struct.error, AssertionError ..
    except Exception as error:
        raise CheckpointError(f"{path} is damaged, or no checkpoint of rtseg: train again or give another") from error
    if not isinstance(state, dict) or any(key not in state for key in _KEYS):
        raise CheckpointError(f"{path} is no checkpoint of rtseg: it lacks {', '.join(_KEYS)}")
    return state


def network_of(state: dict[str, Any], path: Path) -> Network:
    """The network of a checkpoint with its averaged (EMA) weights, in evaluation mode.

    Raises:
        CheckpointError: the weights do not fit the network that the checkpoint names.
    """
    try:
        network = create_model(state["architecture"], len(state["classes"]))
        network.load_state_dict(unwrapped(state["network"]))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the weights in {path} do not fit {state['architecture']!r} of this rtseg") from error
    return network.eval()


def begin_with(network: Network, path: Path, classes: tuple[str, ...]) -> str:
    """Load the averaged weights of a checkpoint into a network that may know other classes.

    Weights whose shape hangs on the classes (the heads) begin anew where the classes differ, auxiliary heads also where
    the checkpoint has none. The first convolution is adapted to another number of channels.

    Args:
        network: made by ``create_model``.
        path: the checkpoint.
        classes: names of the classes of ``network``.

    Returns:
        A sentence about what begins anew; empty if nothing does.

    Raises:
        CheckpointError: no such file, damaged, or of another network.
    """
    state = load_checkpoint(path)
    own = network.state_dict()
    try:
        same = tuple(state["classes"]) == classes
        fresh = set() if same else _heads(network)
        weights = {name: value for name, value in unwrapped(state["network"]).items() if name not in fresh}
        fresh |= {name for name in own if name.startswith(network.auxiliary) and name not in weights}
        network.load_state_dict({**{name: own[name] for name in fresh}, **fit(own, weights)})
    except (CheckpointError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} holds {state['architecture']!r}, which does not fit: give its --model"
        ) from error
    if not fresh:
        return ""
    why = "it has no auxiliary heads" if same else f"it knows {len(state['classes'])} other classes"
    return f"{path}: {why}; {', '.join(sorted(fresh))} begin anew for {len(classes)} classes"


def unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
