"""Count the parameters and operations of a network, without weights and without running it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from rtseg.models import create_model

__all__ = ["Cost", "compute_cost"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of inference, without auxiliary heads."""

    parameters: int
    """Number of trainable parameters, including batch norm."""
    flops: int
    """Floating point operations of convolutions and matrix products for one image; a multiply-add is two."""


def compute_cost(architecture: str, classes: int, size: tuple[int, int]) -> Cost:
    """Compute the cost of a network for images of ``size`` = (H, W), on tensors without memory (``meta``).

    Raises:
        OptionError: the network is unknown, or cannot take ``size``.
        MissingExtra: torchvision is not installed.
    """
    with torch.device("meta"):
        network = create_model(architecture, classes).eval()
        image = torch.empty(1, network.channels, *size)
    network.check_size(*size)
    parameters = [value for name, value in network.named_parameters() if not name.startswith(network.auxiliary)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return Cost(sum(value.numel() for value in parameters), counter.get_total_flops())
