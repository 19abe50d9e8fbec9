"""The networks, by name. Each maps a normalised picture to logits; ``rtseg.deploy.export`` adds head and tail.

A network takes float (N, 3, H, W) and returns logits at its own stride; in training mode it returns a tuple
of logits at several strides, finest first, whose weights in the loss are ``loss_weights``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rtseg.errors import MissingExtra, OptionError

if TYPE_CHECKING:
    from rtseg.models._network import Network

__all__ = ["MODELS", "create_model"]

MODELS: dict[str, tuple[str, str]] = {
    "icnet": ("rtseg.models.icnet", "ICNet"),
}
"""Name -> (module, class)."""


def create_model(name: str, classes: int, **options: Any) -> Network:
    """A network with fresh weights.

    Args:
        name: one of ``MODELS``.
        classes: number of classes, 1..255.
        options: passed on to the network, e.g. ``width`` for ICNet.

    Raises:
        OptionError: ``name`` is not known, or ``classes`` is out of range.
        MissingExtra: torch is not installed.
    """
    if name not in MODELS:
        raise OptionError(f"unknown network {name!r}; known are {', '.join(sorted(MODELS))}")
    if not 1 <= classes <= 255:
        raise OptionError(f"a network has 1 to 255 classes, got {classes}")
    module, class_name = MODELS[name]
    try:
        factory: Callable[..., Network] = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        raise MissingExtra.of(f"network {name!r}", error.name, "train") from error
    return factory(classes, **options)
