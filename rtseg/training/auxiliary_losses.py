"""Losses of outputs that are not logits of classes: boundaries, and features aligned with those of another branch.

They are means over the images of a process; in distributed training they are averaged over the processes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.model_file.spec import VOID

__all__ = ["alignment", "boundary_cross_entropy", "boundary_labels", "keep_boundary"]

_RADIUS = 2
"""Pixels on each side of a contour that belong to the boundary."""
_THRESHOLD = 0.8
"""Probability of a boundary above which a pixel counts for the classes at the boundary (PIDNet, section 4.4)."""
_TEMPERATURE = 4.0
"""Of the softmax over the pixels, as in the code of SCTNet's authors."""


def boundary_labels(labels: Tensor) -> Tensor:
    """Return which pixels are at most 2 pixels from another class: 1, otherwise 0, and 255 where void.

    Void pixels are no class of their own: a thin line of void between two classes is part of their boundary, and the
    border of a void area is none.

    Args:
        labels: int64 (N, H, W), class IDs, 255 where void.

    Returns:
        int64 (N, H, W).
    """
    void = labels == VOID
    highest = _maximum(torch.where(void, -1, labels))
    lowest = -_maximum(torch.where(void, -VOID, -labels))
    return torch.where(void, VOID, (highest > lowest).long())


def _maximum(labels: Tensor) -> Tensor:
    """Return the largest value in the square around each pixel."""
    side = 2 * _RADIUS + 1
    return F.max_pool2d(labels[:, None].float(), side, 1, _RADIUS)[:, 0].long()


def boundary_cross_entropy(logits: Tensor, boundary: Tensor) -> Tensor:
    """Binary cross-entropy in which boundary pixels together have the weight of all others together.

    With the share b of boundary pixels among the labelled ones, a boundary pixel has the weight 1 - b, any other one b;
    the result is the sum of the weighted losses divided by the number of labelled pixels.

    Sources: PIDNet, arXiv 2206.02066, section 4.4, l1; the weights are those of Xie and Tu, "Holistically-Nested Edge
    Detection", ICCV 2015, equation 2.

    Args:
        logits: (N, 1, H, W), of any float dtype.
        boundary: from ``boundary_labels``.

    Returns:
        An fp32 scalar, 0 if no pixel is labelled.
    """
    used = boundary != VOID
    target = (boundary == 1).float()
    count = used.sum().clamp_min(1)
    share = target.sum() / count
    weights = used * torch.where(target > 0, 1 - share, share)
    losses = F.binary_cross_entropy_with_logits(logits[:, 0].float(), target, reduction="none")
    return (weights * losses).sum() / count


def keep_boundary(labels: Tensor, boundary_logits: Tensor) -> Tensor:
    """Return ``labels`` with 255 at the pixels that the network does not see as a boundary.

    Source: PIDNet, arXiv 2206.02066, section 4.4, l3.

    Args:
        labels: int64 (N, H, W).
        boundary_logits: (N, 1, H, W); they get no gradient from it.
    """
    return torch.where(boundary_logits[:, 0].detach().float().sigmoid() > _THRESHOLD, labels, VOID)


def alignment(features: Tensor) -> Tensor:
    """Divergence of each channel, as a distribution over the pixels, from the one that it is aligned with.

    With p and q the softmax over the pixels of the channels of both maps divided by T = 4, the loss is
    T^2 sum_i q_i log(q_i / p_i), mean over channels and images.

    Sources: SCTNet, arXiv 2312.17071, "Semantic Information Alignment Module"; Shu et al., "Channel-wise Knowledge
    Distillation for Dense Prediction", ICCV 2021, arXiv 2011.13256, equation 4.

    Args:
        features: (N, 2, C, H, W): the features, and those that they are aligned with, which get no gradient.

    Returns:
        An fp32 scalar.
    """
    maps = features.float().flatten(3) / _TEMPERATURE
    learner, guide = maps[:, 0].log_softmax(2), maps[:, 1].detach().log_softmax(2)
    return _TEMPERATURE**2 * F.kl_div(learner, guide, reduction="none", log_target=True).sum(2).mean()
