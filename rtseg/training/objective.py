"""From a batch to the number that training minimises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.errors import DatasetError, OptionError
from rtseg.models.base import Network
from rtseg.models.label_network import normalise
from rtseg.training import pixel_losses as _pixel_losses
from rtseg.training.loss_options import parse_loss

__all__ = ["CLASS_WEIGHTS", "Objective", "PixelLoss", "class_weights", "identity", "make_loss", "multi_resolution_loss"]

CLASS_WEIGHTS = ("none", "enet", "median")
PixelLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits (N, C, h, w) and labels int64 (N, h, w), 255 where void, to an fp32 scalar."""
_LOSSES: dict[str, Callable[..., Tensor]] = {
    "ce": _pixel_losses.cross_entropy,
    "asymmetric": _pixel_losses.asymmetric,
    "ohem": _pixel_losses.ohem,
    "dice": _pixel_losses.dice,
    "lovasz": _pixel_losses.lovasz,
}


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

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            images: uint8 (N, C, H, W); of a network that remembers, clips (N, T, C, H, W), oldest frame first.
            labels: int64 (N, H, W) or (N, T, H, W).
        """
        network = self.network
        if not network.recurrent:
            return self._compare(network(normalise(images, network.channels)), labels)
        losses: list[Tensor] = []
        state: Tensor | None = None
        for moment in range(images.shape[1]):
            outputs, state = network(normalise(images[:, moment], network.channels), state)
            losses.append(self._compare(outputs, labels[:, moment]))
        return torch.stack(losses).mean()

    def _compare(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        return multi_resolution_loss(several, labels, self._weights, self._loss, coarse=self.network.coarse_labels)


def identity(value: Tensor) -> Tensor:
    """``value``: the mean over processes where there is one."""
    return value


def class_weights(pixels: NDArray[np.int64], kind: str) -> Tensor:
    """Weight of each class in the loss, float32 (C,), mean 1 over the pixels of the data.

    ``enet``: 1 / ln(1.02 + p), Paszke et al., "ENet", arXiv 1606.02147, section 5.1; p is the share of a class among
    the labelled pixels. ``median``: median frequency balancing, median(f) / f, Eigen and Fergus, ICCV 2015, section
    6.1; f is the share of a class among the labelled pixels of those images in which it occurs. A class without any
    pixel gets weight 0.

    Args:
        pixels: int64 (2, C): of each class, and labelled pixels of all images in which it occurs.
        kind: one of ``CLASS_WEIGHTS``.

    Raises:
        DatasetError: no pixel is labelled.
        OptionError: ``kind`` is not known.
    """
    if kind not in CLASS_WEIGHTS:
        raise OptionError(f"unknown class weights {kind!r}; known are {', '.join(CLASS_WEIGHTS)}")
    if pixels.sum() == 0:
        raise DatasetError("no pixel of the training data is labelled: every label is void")
    own, around = pixels
    share = own / own.sum()
    seen = own > 0
    weights = np.ones_like(share)
    if kind == "enet":
        weights = 1 / np.log(1.02 + share)
    elif kind == "median":
        frequency = own[seen] / around[seen]
        weights[seen] = np.median(frequency) / frequency
    weights[~seen] = 0
    return torch.from_numpy(weights / (weights * share).sum()).float()


def make_loss(text: str, class_weights: Tensor, *, mean: Callable[[Tensor], Tensor] = identity) -> PixelLoss:
    """The loss that ``text`` names.

    Args:
        text: ``[FACTOR*]NAME[:key=value,..]``, several joined by ``+``: ``ce``, ``ohem:threshold=0.7,keep=0.0625``,
            ``asymmetric:gamma_neg=4,gamma_pos=1,clip=0.05``, ``dice``, ``lovasz``, ``ce+0.5*lovasz``. ``LOSSES`` names
            all; ``rtseg.training.pixel_losses`` has formulas and sources.
        class_weights: float (C,). ``ce``, ``asymmetric`` and ``ohem`` weigh a pixel by its class; ``dice`` and
            ``lovasz`` count classes alike, but for those of weight 0, which all leave out.
        mean: over the processes of a distributed training, without a gradient. It is applied to the sum of pixel
            weights that a loss is divided by. Such training averages gradients over processes, so that the result is
            the gradient that one process gets from all pixels together, however unevenly void is spread; of ``ohem``
            so far as the threshold chooses, for ``keep`` is a share of each process. ``dice`` and ``lovasz`` are the
            means of what each process finds for its own pixels.

    Returns:
        A function of logits (N, C, h, w), of any float dtype, and labels, int64 (N, h, w) with 255 where void. It gives
        a finite fp32 scalar: 0, with zero gradients, where no pixel counts.

    Raises:
        OptionError: a name or option in ``text`` is not known, or a value is malformed or out of range.
    """
    terms = [
        (term.factor, partial(_LOSSES[term.name], weights=class_weights, mean=mean, **term.options))
        for term in parse_loss(text)
    ]

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([factor * of(logits, labels) for factor, of in terms]).sum()

    return loss


def multi_resolution_loss(
    outputs: tuple[Tensor, ...], labels: Tensor, weights: tuple[float, ...], loss: PixelLoss, *, coarse: bool = False
) -> Tensor:
    """Weighted sum of the losses of predictions at several resolutions.

    Args:
        outputs: logits (N, C, h_i, w_i), finest first.
        labels: int64 (N, H, W); 255 is left out, and where that is all the loss is 0.
        weights: one for each output.
        loss: of each output, see ``make_loss``.
        coarse: whether labels are made as small as each prediction, by nearest neighbour; else predictions are made
            as large as the labels, by bilinear resizing, so that nothing small is lost.

    Sources: coarse: ICNet, arXiv 1704.08545, section 3.4, "cascade label guidance"; else DeepLabV3, arXiv 1706.05587,
    section 4.1, "upsampling logits".

    Raises:
        ValueError: there are more or fewer weights than outputs.
    """
    fit = _labels_fitted if coarse else _logits_fitted
    losses = [weight * loss(*fit(logits, labels)) for logits, weight in zip(outputs, weights, strict=True)]
    return torch.stack(losses).sum()


def _labels_fitted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    small = F.interpolate(labels[:, None].float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()
    return logits, small


def _logits_fitted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    large = F.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
    return large, labels
