"""The training objective: network, loss functions by name, and class weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.errors import DatasetError, OptionError
from rtseg.models.base import Network, Output
from rtseg.models.label_network import normalise
from rtseg.training.auxiliary_losses import alignment, boundary_cross_entropy, boundary_labels, keep_boundary
from rtseg.training.loss_options import parse_loss
from rtseg.training.options import CLASS_WEIGHTS
from rtseg.training.pixel_losses import asymmetric, cross_entropy, dice, lovasz, ohem
from rtseg.training.teacher import Teachers

__all__ = [
    "Objective",
    "PixelLoss",
    "class_weights",
    "make_loss",
    "multi_resolution_loss",
    "output_losses",
    "rare_classes",
]

PixelLoss = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (N, C, h, w) and labels int64 (N, h, w), 255 where void, to an fp32 scalar."""
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Changes the images and labels of a batch."""
_LOSSES: dict[str, Callable[..., Tensor]] = {
    "ce": cross_entropy,
    "asymmetric": asymmetric,
    "ohem": ohem,
    "dice": dice,
    "lovasz": lovasz,
}
_RARE = 0.25
"""A class is rare if it has less than this part of the mean number of pixels of a class."""


class Objective(nn.Module):
    """Normalisation, network and loss in one module: distributed training needs a single forward pass per step.

    Args:
        network: in training mode.
        loss: for the logits of one output.
        weights: of the outputs, the main one first.
        mixes: change each batch of images and labels first, one after the other.
        teachers: whose predictions are learnt too.
    """

    def __init__(
        self,
        network: Network,
        loss: PixelLoss,
        weights: tuple[float, ...],
        mixes: Sequence[Mix] = (),
        teachers: Teachers | None = None,
    ) -> None:
        super().__init__()
        self._mixes = mixes
        self._teachers = teachers
        self.network = network
        self._loss = loss
        self._weights = weights

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch, a scalar.

        Args:
            images: uint8 (N, C, H, W); for a recurrent network clips (N, T, C, H, W), oldest frame first.
            labels: int64 (N, H, W) or (N, T, H, W).
        """
        network = self.network
        for mix in self._mixes:
            images, labels = mix(images, labels)
        if not network.recurrent:
            return self._loss_of(network(normalise(images, network.channels)), images, labels)
        losses: list[Tensor] = []
        state: Tensor | None = None
        for frame in range(images.shape[1]):
            outputs, state = network(normalise(images[:, frame], network.channels), state)
            losses.append(self._loss_of(outputs, images[:, frame], labels[:, frame]))
        return torch.stack(losses).mean()

    def _loss_of(self, outputs: Tensor | tuple[Tensor, ...], images: Tensor, labels: Tensor) -> Tensor:
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if self._teachers is None:
            return self._loss_of_outputs(outputs, labels)
        labels = self._teachers.fill_labels(images, labels)
        return self._loss_of_outputs(outputs, labels) + self._teachers.loss(outputs[0], images)

    def _loss_of_outputs(self, outputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        if self.network.outputs:
            losses = output_losses(outputs, labels, self.network.outputs, self._loss)
            return torch.stack([weight * loss for loss, weight in zip(losses, self._weights, strict=True)]).sum()
        return multi_resolution_loss(outputs, labels, self._weights, self._loss, coarse=self.network.coarse_labels)


def _identity(value: Tensor) -> Tensor:
    return value


def class_weights(pixels: NDArray[np.int64], kind: str, power: float = 1.0) -> Tensor:
    """Compute the weight of each class in the loss, float32 (C,), with mean 1 over the pixels of the data.

    ``enet``: 1 / ln(1.02 + p), Paszke et al., "ENet", arXiv 1606.02147, section 5.1; p is the share of a class among
    the labelled pixels. ``median``: median frequency balancing, median(f) / f, Eigen and Fergus, ICCV 2015, section
    6.1; f is the share of a class among the labelled pixels of the images in which it occurs. A class without
    pixels gets weight 0.

    Args:
        pixels: int64 (2, C): for each class, its pixels, and the labelled pixels of all images in which it occurs.
        kind: one of ``CLASS_WEIGHTS``.
        power: exponent of the weights before they are divided by their mean; 0.5 makes them weaker, 0 equal.

    Raises:
        DatasetError: no pixel is labelled.
        OptionError: ``kind`` is unknown.
    """
    if kind not in CLASS_WEIGHTS:
        raise OptionError(f"unknown class weights {kind!r}; known are {', '.join(CLASS_WEIGHTS)}")
    if pixels.sum() == 0:
        raise DatasetError("no pixel of the training data is labelled: every label is void")
    class_pixels, image_pixels = pixels
    share = class_pixels / class_pixels.sum()
    occurs = class_pixels > 0
    weights = np.ones_like(share)
    if kind == "enet":
        weights = 1 / np.log(1.02 + share)
    elif kind == "median":
        frequency = class_pixels[occurs] / image_pixels[occurs]
        weights[occurs] = np.median(frequency) / frequency
    weights = np.where(occurs, weights**power, 0)
    return torch.from_numpy(weights / (weights * share).sum()).float()


def rare_classes(pixels: NDArray[np.int64]) -> Tensor:
    """Return which classes have less than a quarter of the mean share of pixels, bool (C,).

    Args:
        pixels: see ``class_weights``. A class without pixels is not rare.
    """
    counts = pixels[0]
    return torch.from_numpy((counts > 0) & (counts < _RARE * counts.sum() / len(counts)))


def make_loss(text: str, class_weights: Tensor, *, mean: Callable[[Tensor], Tensor] = _identity) -> PixelLoss:
    """Create the loss that ``text`` describes.

    Args:
        text: ``[FACTOR*]NAME[:key=value,..]``, several joined by ``+``: ``ce:smoothing=0.05``,
            ``ohem:threshold=0.7,keep=0.0625``, ``asymmetric:gamma_neg=4,gamma_pos=1,clip=0.05``, ``dice``, ``lovasz``,
            ``ce+0.5*lovasz``. All names are in ``LOSSES``, formulas and sources in ``rtseg.training.pixel_losses``.
        class_weights: float (C,). ``ce``, ``asymmetric`` and ``ohem`` weight each pixel by its class; ``dice`` and
            ``lovasz`` weight classes equally. Every loss ignores classes of weight 0.
        mean: the mean over the processes of distributed training, without a gradient. It is applied to the sum of the
            pixel weights by which a loss is divided. As gradients are averaged over processes, the result is the
            gradient of a single process with all pixels, even if void pixels are unevenly distributed. ``keep`` of
            ``ohem`` is a share of the pixels of each process. ``dice`` and ``lovasz`` are averages of the losses of
            each process.

    Returns:
        A function of logits (N, C, h, w), of any float dtype, and labels, int64 (N, h, w) with 255 where void. It
        returns a finite fp32 scalar, which is 0, with zero gradients, if all pixels are ignored.

    Raises:
        OptionError: a name or option in ``text`` is unknown, or a value is malformed or out of range.
    """
    terms = [
        (term.factor, partial(_LOSSES[term.name], weights=class_weights, mean=mean, **term.options))
        for term in parse_loss(text)
    ]

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([factor * term(logits, labels) for factor, term in terms]).sum()

    return loss


def output_losses(
    outputs: tuple[Tensor, ...], labels: Tensor, kinds: tuple[Output, ...], loss: PixelLoss
) -> list[Tensor]:
    """Compute the loss of each output of a network that has not only logits of classes.

    Outputs are upsampled bilinearly to the size of the labels, apart from those of ``Output.ALIGNMENT``.

    Args:
        outputs: as the kinds say.
        labels: int64 (N, H, W); 255 is ignored.
        kinds: of the outputs.
        loss: for logits of classes, see ``make_loss``.
    """
    losses = []
    for output, kind in zip(outputs, kinds, strict=True):
        if kind is Output.ALIGNMENT:
            losses.append(alignment(output))
            continue
        large, wanted = _upsample_logits(output, labels)
        if kind is Output.BOUNDARY:
            losses.append(boundary_cross_entropy(large, boundary_labels(labels)))
            continue
        if kind is Output.CLASSES_AT_BOUNDARY:
            boundary, _ = _upsample_logits(outputs[kinds.index(Output.BOUNDARY)], labels)
            wanted = keep_boundary(labels, boundary)
        losses.append(loss(large, wanted))
    return losses


def multi_resolution_loss(
    outputs: tuple[Tensor, ...], labels: Tensor, weights: tuple[float, ...], loss: PixelLoss, *, coarse: bool = False
) -> Tensor:
    """Compute the weighted sum of the losses of predictions at several resolutions.

    Args:
        outputs: logits (N, C, h_i, w_i), finest first.
        labels: int64 (N, H, W); 255 is ignored, and the loss is 0 if all labels are 255.
        weights: one for each output.
        loss: for each output, see ``make_loss``.
        coarse: whether to downsample the labels to each prediction, by nearest neighbour; otherwise predictions are
            upsampled bilinearly to the size of the labels, which keeps small objects.

    Sources: coarse: ICNet, arXiv 1704.08545, section 3.4, "cascade label guidance"; otherwise DeepLabV3, arXiv
    1706.05587, section 4.1, "upsampling logits".

    Raises:
        ValueError: the numbers of weights and outputs differ.
    """
    match_size = _downsample_labels if coarse else _upsample_logits
    losses = [weight * loss(*match_size(logits, labels)) for logits, weight in zip(outputs, weights, strict=True)]
    return torch.stack(losses).sum()


def _downsample_labels(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    small = F.interpolate(labels[:, None].float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()
    return logits, small


def _upsample_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    large = F.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
    return large, labels
