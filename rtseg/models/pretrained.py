"""Weights that others trained: fetched from torchvision, and fitted to a network that differs at both ends."""

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

__all__ = ["adapt_kernel", "fetch", "fit", "load_into", "prefixed"]

_TIMEOUT_S = 20.0
"""Of every single step of a connection: a network that swallows packets must not hang a run."""


def fetch(name: str) -> dict[str, Tensor]:
    """The best weights that torchvision publishes for its model ``name``, on the CPU.

    They are kept in torch's own folder (``TORCH_HOME``), so that the network is needed once.

    Raises:
        CheckpointError: they cannot be fetched, or came damaged; the text says how to do without the network.
    """
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    try:
        with _timeout():
            found: dict[str, Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
    except (OSError, RuntimeError, HTTPException, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"cannot fetch the published weights {weights.url} ({reason}): "
            f"train without pretrained, or put that file into {torch.hub.get_dir()}/checkpoints"
        ) from error
    return found


@contextmanager
def _timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def load_into(module: nn.Module, weights: Mapping[str, Tensor], *, fresh: Collection[str] = ()) -> None:
    """Load published weights into a network or a part of it; what they hold beyond it (a classifier) is left.

    Args:
        module: the part to load into, in the names of ``weights``.
        weights: by name.
        fresh: names of weights of ``module`` that begin anew.

    Raises:
        CheckpointError: they are weights of something else.
    """
    own = module.state_dict()
    fitted = fit(own, {name: value for name, value in weights.items() if name in own and name not in fresh})
    # Weights of before 2018 do not count batches; batch norm begins at 0 then.
    missing = [name for name in own if name not in (*fitted, *fresh) and not name.endswith("num_batches_tracked")]
    if missing:
        raise CheckpointError(
            f"the published weights lack {missing[0]} and {len(missing) - 1} more: update torchvision"
        )
    module.load_state_dict(fitted, strict=False)


def fit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` in the shapes of ``own``: the first convolution is adapted to another number of channels.

    Raises:
        CheckpointError: a tensor has no place, or another shape; the text names it.
    """
    fitted: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name not in own:
            raise CheckpointError(f"the network has no place for the weights {name!r}")
        got, wanted = tuple(value.shape), tuple(own[name].shape)
        if len(got) == len(wanted) == 4 and got[1] == 3 and wanted == (got[0], wanted[1], *got[2:]):
            fitted[name] = adapt_kernel(value, wanted[1])
        elif got == wanted:
            fitted[name] = value
        else:
            raise CheckpointError(f"the weights {name!r} have shape {got}, the network wants {wanted}")
    return fitted


def adapt_kernel(kernel: Tensor, channels: int) -> Tensor:
    """A first convolution made for RGB, for another number of channels, answering grey images as before.

    Args:
        kernel: (out, 3, h, w).
        channels: 1: the sum over RGB; 2: that, and a second that begins at zero, as nobody knows what it will mean; 4:
            RGB as it is, and such a fourth.

    Returns:
        (out, channels, h, w).
    """
    seen = kernel if channels >= 3 else kernel.sum(1, keepdim=True)
    return torch.cat((seen, torch.zeros_like(seen[:, :1])), dim=1)[:, :channels]


def prefixed(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
