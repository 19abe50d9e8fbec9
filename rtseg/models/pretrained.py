"""Pretrained weights: downloaded from torchvision, and adapted to a network with other input channels or classes."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

import torch
from torch import Tensor, nn

from rtseg.errors import CheckpointError

__all__ = ["adapt_kernel", "download_weights", "fit_weights", "load_weights", "strip_prefix"]

_TIMEOUT_S = 20.0
"""Timeout of each connection step: a network that drops packets must not block a run."""


def download_weights(name: str) -> dict[str, Tensor]:
    """Return the best weights that torchvision publishes for its model ``name``, on the CPU.

    They are cached in torch's folder (``TORCH_HOME``), so that they are downloaded only once.

    Raises:
        CheckpointError: they cannot be downloaded, or are damaged; the message says how to work offline.
    """
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    try:
        with _timeout():
            state_dict: dict[str, Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
    except (OSError, RuntimeError, HTTPException, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"cannot download the published weights {weights.url} ({reason}): "
            f"train without pretrained, or put that file into {torch.hub.get_dir()}/checkpoints"
        ) from error
    return state_dict


@contextmanager
def _timeout() -> Iterator[None]:
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], *, fresh: Collection[str] = ()) -> None:
    """Load published weights into a network or a part of it; other weights, e.g. of a classifier, are ignored.

    Args:
        module: the module to load into; its parameter names are those of ``weights``.
        weights: by name.
        fresh: names of the weights of ``module`` that are not loaded.

    Raises:
        CheckpointError: the weights are of another network.
    """
    own = module.state_dict()
    fitted = fit_weights(own, {name: value for name, value in weights.items() if name in own and name not in fresh})
    # Weights from before 2018 lack the batch counters, which then start at 0.
    missing = [name for name in own if name not in (*fitted, *fresh) and not name.endswith("num_batches_tracked")]
    if missing:
        raise CheckpointError(
            f"the published weights lack {missing[0]} and {len(missing) - 1} more: update torchvision"
        )
    module.load_state_dict(fitted, strict=False)


def fit_weights(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``weights`` with the shapes of ``own``: the first convolution is adapted to another number of channels.

    Raises:
        CheckpointError: a tensor is not in ``own``, or has another shape; the message names it.
    """
    fitted: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name not in own:
            raise CheckpointError(f"the network has no weights {name!r}")
        got, expected = tuple(value.shape), tuple(own[name].shape)
        if len(got) == len(expected) == 4 and got[1] == 3 and expected == (got[0], expected[1], *got[2:]):
            fitted[name] = adapt_kernel(value, expected[1])
        elif got == expected:
            fitted[name] = value
        else:
            raise CheckpointError(f"the weights {name!r} have shape {got}, the network has {expected}")
    return fitted


def adapt_kernel(kernel: Tensor, channels: int) -> Tensor:
    """Adapt the first convolution of an RGB network to another number of channels; grey images give the same result.

    Args:
        kernel: (out, 3, h, w).
        channels: 1: the sum over RGB; 2: the same and zeros for the extra channel; 4: RGB and zeros for the extra
            channel.

    Returns:
        (out, channels, h, w).
    """
    colours = kernel if channels >= 3 else kernel.sum(1, keepdim=True)
    return torch.cat((colours, torch.zeros_like(colours[:, :1])), dim=1)[:, :channels]


def strip_prefix(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries whose name starts with ``prefix``, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
