"""Networks with random weights in which every layer affects the output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from rtseg.models import create_model
from rtseg.models.base import Network

CLASSES = 5


def run_network(network: Network, images: Tensor) -> Any:
    """Run ``network``; a recurrent network is run twice, and the second output is returned."""
    if not network.recurrent:
        return network(images)
    _, state = network(images)
    return network(images, state)[0]


def random_network(architecture: str, classes: int = CLASSES) -> Network:
    """Create a deterministic network in evaluation mode; batch norms have random weights and matching statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = create_model(architecture, classes)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.uniform_(part.bias, -0.3, 0.3)
                part.momentum = None  # the mean over all batches
            if isinstance(part, StochasticDepth):
                part.p = 0.0
        network.train()
        with torch.no_grad():
            for _ in range(2):
                network(torch.randn(2, network.channels, 64, 96))
    return network.eval()
