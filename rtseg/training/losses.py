"""What training minimises, and how classes are weighted in it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.errors import DatasetError, OptionError
from rtseg.spec import VOID

__all__ = ["CLASS_WEIGHTS", "class_weights", "multi_resolution_loss"]

CLASS_WEIGHTS = ("none", "enet", "median")


def class_weights(pixels: NDArray[np.int64], kind: str) -> Tensor:
    """Weight of each class in the cross-entropy, float32 (C,), mean 1 over the pixels of the data.

    ``enet``: 1 / ln(1.02 + p), Paszke et al., "ENet", arXiv 1606.02147, section 5.1. ``median``: median frequency
    balancing, median(p) / p, Eigen and Fergus, ICCV 2015, section 6.1. p is the share of a class among the labelled
    pixels; a class without any gets weight 0.

    Args:
        pixels: pixel count of each class, int64 (C,).
        kind: one of ``CLASS_WEIGHTS``.

    Raises:
        DatasetError: no pixel is labelled.
        OptionError: ``kind`` is not known.
    """
    if kind not in CLASS_WEIGHTS:
        raise OptionError(f"unknown class weights {kind!r}; known are {', '.join(CLASS_WEIGHTS)}")
    if pixels.sum() == 0:
        raise DatasetError("no pixel of the training data is labelled: every label is void")
    share = pixels / pixels.sum()
    seen = share > 0
    weights = np.ones_like(share)
    if kind == "enet":
        weights = 1 / np.log(1.02 + share)
    elif kind == "median":
        weights[seen] = np.median(share[seen]) / share[seen]
    weights[~seen] = 0
    return torch.from_numpy(weights / (weights * share).sum()).float()


def multi_resolution_loss(
    outputs: tuple[Tensor, ...], labels: Tensor, weights: tuple[float, ...], classes: Tensor
) -> Tensor:
    """Weighted sum of the cross-entropies of predictions at several resolutions.

    Args:
        outputs: logits (N, C, h_i, w_i), finest first.
        labels: int64 (N, H, W); 255 is left out, and where that is all the loss is 0. Made smaller by nearest
            neighbour to each h_i x w_i.
        weights: one for each output.
        classes: weight of each class, float (C,).

    Source: ICNet, arXiv 1704.08545, section 3.4, "cascade label guidance".
    """
    total = torch.zeros((), device=labels.device)
    for logits, weight in zip(outputs, weights, strict=True):
        small = F.interpolate(labels[:, None].float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()
        # The weighted mean by hand: over a batch without a labelled pixel, torch's own is 0 / 0.
        summed = F.cross_entropy(logits.float(), small, classes, ignore_index=VOID, reduction="sum")
        weighed = classes[small[small != VOID]].sum()
        total = total + weight * summed / weighed.clamp_min(torch.finfo(torch.float32).tiny)
    return total
