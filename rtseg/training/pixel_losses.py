"""Loss functions for logits and labels. All have the same signature.

Args:
    logits: (N, C, h, w), of any float dtype; the loss is computed in fp32.
    labels: int64 (N, h, w), class IDs; 255 is ignored.
    weights: of the classes, float (C,), not negative. Pixels of a class of weight 0 are ignored like void ones.
    mean: applied to the sum by which a loss is divided, see ``rtseg.training.objective.make_loss``.

Returns:
    An fp32 scalar. It is 0, with zero gradients, if all pixels are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.model_file.spec import VOID

__all__ = ["asymmetric", "cross_entropy", "dice", "lovasz", "ohem"]

Mean = Callable[[Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy: sum_i w(y_i) l_i / sum_i w(y_i) over pixels i with label y_i.

    l_i = -(1 - s) log p_i(y_i) - s / C sum_c log p_i(c), with p the softmax, C the number of classes and s
    ``smoothing``, in [0, 1). Source of s: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, arXiv
    1512.00567, section 7.
    """
    pixel_losses = F.cross_entropy(
        logits.float(), labels, ignore_index=VOID, reduction="none", label_smoothing=smoothing
    )
    return _weighted_mean(pixel_losses, _pixel_weights(labels, weights), mean)


def asymmetric(
    logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean, *, gamma_neg: float, gamma_pos: float, clip: float
) -> Tensor:
    """Asymmetric loss: a binary loss for each class, in which easy negatives have little weight.

    With p the sigmoid of a logit and p_m = max(p - clip, 0), the loss of a pixel is (1 - p)^gamma_pos (-log p) for its
    own class plus p_m^gamma_neg (-log(1 - p_m)) for each other class. As in cross-entropy, the total loss of a pixel is
    weighted by its own class, and the result is the weighted mean over pixels. The prediction remains the argmax of the
    logits, because the sigmoid is monotonic.

    No gradient flows through the two focusing powers, as in the authors' code (``disable_torch_grad_focal_loss``).

    Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021, arXiv 2009.14119, section 2,
    "Asymmetric Focusing" and "Asymmetric Probability Shifting".
    """
    own = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)[:, None, None]
    signed = torch.where(own, logits.float(), -logits.float())  # its sigmoid is the probability of the correct answer
    shift = torch.where(own, 0.0, clip)
    with torch.no_grad():
        focus = (torch.sigmoid(-signed) - shift).clamp_min(0) ** torch.where(own, gamma_pos, gamma_neg)
    # log(sigmoid + shift), which is finite even where the sigmoid is 0 in fp32.
    negative_log = -torch.logaddexp(F.logsigmoid(signed), shift.log()).clamp_max(0)
    return _weighted_mean((focus * negative_log).sum(1), _pixel_weights(labels, weights), mean)


def ohem(logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean, *, threshold: float, keep: float) -> Tensor:
    """Cross-entropy of the hard pixels, whose true class has a probability below ``threshold``.

    At least the share ``keep`` of the pixels is used: those with the lowest probability, including ties.

    Sources: Shrivastava, Gupta and Girshick, "Training Region-based Object Detectors with Online Hard Example Mining",
    CVPR 2016, for regions; the code of OCNet and HRNet for pixels, with a threshold and a minimum number. Unlike
    theirs, class weights do not affect which pixels are hard.
    """
    pixel_losses = F.cross_entropy(logits.float(), labels, ignore_index=VOID, reduction="none")
    pixel_weights = _pixel_weights(labels, weights)
    with torch.no_grad():
        used = pixel_weights > 0
        hard = torch.exp(-pixel_losses) < threshold
        minimum = math.ceil(keep * int(used.sum()))
        if minimum:
            hard |= pixel_losses >= pixel_losses[used].topk(minimum).values[-1]
    return _weighted_mean(pixel_losses, pixel_weights * hard, mean)


def dice(logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean) -> Tensor:
    """Dice loss: 1 - 2 sum_i p_i(c) [y_i = c] / sum_i (p_i(c) + [y_i = c]), mean over the classes c in the labels.

    p is the softmax; sums are over the pixels of the whole batch. Classes are weighted equally; ``mean`` is not used.

    Sources: Milletari, Navab and Ahmadi, "V-Net", arXiv 1606.04797, "Dice loss layer", with p instead of its square in
    the denominator, as in Sudre et al., "Generalised Dice overlap", arXiv 1707.03237. No epsilon is needed: the
    denominator of a class that occurs is positive.
    """
    del mean
    return _mean_over_classes(logits, labels, weights, _dice_of_class)


def lovasz(logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean) -> Tensor:
    """Lovasz-Softmax loss: the Lovasz extension of 1 - IoU at the softmax errors, mean over the classes in the labels.

    IoU is over the pixels of the whole batch. Classes are weighted equally; ``mean`` is not used.

    Source: Berman, Rannen Triki and Blaschko, "The Lovasz-Softmax loss", CVPR 2018, arXiv 1705.08790: the
    multi-class form over a batch.
    """
    del mean
    return _mean_over_classes(logits, labels, weights, _lovasz_of_class)


def _pixel_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """Return the weight of each pixel, float (N, h, w): that of its class, 0 where void."""
    labelled = labels != VOID
    pixel_weights = torch.zeros(labels.shape, device=labels.device)
    pixel_weights[labelled] = weights.float()[labels[labelled]]
    return pixel_weights


def _weighted_mean(pixel_losses: Tensor, pixel_weights: Tensor, mean: Mean) -> Tensor:
    """Return the weighted mean of (N, h, w) losses; 0 instead of NaN (0 / 0) if no pixel has a weight."""
    return (pixel_weights * pixel_losses).sum() / mean(pixel_weights.sum()).clamp_min(torch.finfo(torch.float32).tiny)


def _mean_over_classes(
    logits: Tensor, labels: Tensor, weights: Tensor, class_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the mean of ``class_loss(probability (M,), truth (M,) bool)`` over the classes of the M used pixels."""
    used = _pixel_weights(labels, weights) > 0
    truth = labels[used]
    probabilities = logits.float().softmax(1)
    classes = truth.bincount().nonzero()[:, 0].tolist()
    total = probabilities[:0].sum()  # 0, with a gradient even if there is no class
    maps = probabilities.unbind(1)
    for class_id in classes:
        total = total + class_loss(maps[class_id].masked_select(used), truth == class_id)
    return total / max(1, len(classes))


def _dice_of_class(probability: Tensor, truth: Tensor) -> Tensor:
    return 1 - 2 * (probability * truth).sum() / (probability.sum() + truth.sum())


def _lovasz_of_class(probability: Tensor, truth: Tensor) -> Tensor:
    errors, order = torch.where(truth, 1 - probability, probability).sort(descending=True)
    # Add pixels to the set of wrong pixels, largest error first. 1 - IoU increases at each step: a pixel of the class
    # leaves the intersection, any other pixel joins the union. Each increase is computed directly. The authors' code
    # takes differences of the cumulative 1 - IoU, which have a precision of one digit in fp32 for a million pixels.
    own = truth[order]
    size = truth.sum()
    union = size + (~own).cumsum(0)
    intersection = size - own.cumsum(0)
    increases = torch.where(own, 1 / union, intersection / (union * (union - 1)))
    return (errors * increases).sum()
