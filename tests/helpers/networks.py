"""Networks with fresh weights in which every layer has something to say, for the tests of all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rtseg.models import create_model
from rtseg.models.base import Network

CLASSES = 5


def run_network(network: Network, images: Tensor) -> Any:
    """What ``network`` says of ``images``; of a sequence model, what it says when it sees them a second time."""
    if not network.recurrent:
        return network(images)
    _, state = network(images)
    return network(images, state)[0]


def random_network(architecture: str, classes: int = CLASSES) -> Network:
    """In evaluation mode, always the same: batch norms have drawn weights and the statistics of what they are fed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = create_model(architecture, classes)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.uniform_(part.bias, -0.3, 0.3)
                part.momentum = None  # a plain mean over all batches
        network.train()
        with torch.no_grad():
            for _ in range(2):
                network(torch.randn(2, network.channels, 64, 96))
    return network.eval()
