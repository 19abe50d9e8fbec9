"""From a batch to the number that training minimises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtseg.models._labels import normalise
from rtseg.models._network import Network
from rtseg.training.losses import PixelLoss, multi_resolution_loss

__all__ = ["Objective"]


class Objective(nn.Module):
    """Normalisation, network and loss as one module, so that distributed training sees one forward pass a step.

    Args:
        network: in training mode.
        loss: of the logits of one output.
        weights: of the outputs, the main one first.
    """

    def __init__(self, network: Network, loss: PixelLoss, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self._loss = loss
        self._weights = weights

    def forward(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            pictures: uint8 (N, C, H, W); of a network that remembers, clips (N, T, C, H, W), oldest frame first.
            labels: int64 (N, H, W) or (N, T, H, W).
        """
        network = self.network
        if not network.recurrent:
            return self._compare(network(normalise(pictures, network.channels)), labels)
        losses: list[Tensor] = []
        state: Tensor | None = None
        for moment in range(pictures.shape[1]):
            outputs, state = network(normalise(pictures[:, moment], network.channels), state)
            losses.append(self._compare(outputs, labels[:, moment]))
        return torch.stack(losses).mean()

    def _compare(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        return multi_resolution_loss(several, labels, self._weights, self._loss, coarse=self.network.coarse_labels)
