"""Training state on disk: tensors and plain values only, so that loading one can never run code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from rtseg.errors import CheckpointError
from rtseg.models import create_model
from rtseg.models._network import Network

__all__ = ["load_checkpoint", "network_of", "save_checkpoint"]

_KEYS = ("network", "architecture", "classes", "palette")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` beside ``path`` and rename, so that a killed run leaves the old or the new file, whole."""
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote, onto the CPU.

    Raises:
        CheckpointError: no such file, damaged, or not a checkpoint of rtseg.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; `rtseg train` writes best.pt and last.pt into its run folder")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged, or no checkpoint of rtseg: train again or give another") from error
    if not isinstance(state, dict) or any(key not in state for key in _KEYS):
        raise CheckpointError(f"{path} is no checkpoint of rtseg: it lacks {', '.join(_KEYS)}")
    return state


def network_of(state: dict[str, Any], path: Path) -> Network:
    """The network of a checkpoint with its averaged (EMA) weights, in evaluation mode.

    Raises:
        CheckpointError: the weights do not fit the network that the checkpoint names.
    """
    network = create_model(state["architecture"], len(state["classes"]))
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {path} do not fit {state['architecture']!r} of this rtseg") from error
    return network.eval()
