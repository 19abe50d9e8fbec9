"""What a network costs, without its weights and without running it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from rtseg.models import create_model

__all__ = ["Cost", "cost_of"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of inference: auxiliary heads are left out."""

    parameters: int
    """Numbers that training sets, batch norm included."""
    flops: int
    """Floating point operations for one image, those of convolutions and matrix products: two a multiply-add."""


def cost_of(architecture: str, classes: int, size: tuple[int, int]) -> Cost:
    """The cost of a network for images of ``size`` = (H, W), counted on tensors that have shapes but no memory.

    Raises:
        OptionError: the network is not known, or cannot take ``size``.
        MissingExtra: torchvision is not installed.
    """
    with torch.device("meta"):
        network = create_model(architecture, classes).eval()
        image = torch.empty(1, network.channels, *size)
    network.check_size(*size)
    kept = [value for name, value in network.named_parameters() if not name.startswith(network.auxiliary)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return Cost(sum(value.numel() for value in kept), counter.get_total_flops())
