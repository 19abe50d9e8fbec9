"""How wrong logits are about labels: one function a loss, all of one form.

Args of each:
    logits: (N, C, h, w), of any float dtype; judged in fp32.
    labels: int64 (N, h, w), class ids; 255 is left out.
    weights: of the classes, float (C,), not negative. A pixel of a class of weight 0 is left out like a void one.
    mean: applied to the number that a loss is divided by, see ``rtseg.training.objective.make_loss``.

Each returns an fp32 scalar; where no pixel counts it is 0, and so are its gradients.
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


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean) -> Tensor:
    """sum_i w(y_i) (-log p_i(y_i)) / sum_i w(y_i) over pixels i of truth y_i, p the softmax of the logits."""
    surprise = F.cross_entropy(logits.float(), labels, ignore_index=VOID, reduction="none")
    return _weighted_mean(surprise, _pixel_weights(labels, weights), mean)


def asymmetric(
    logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean, *, gamma_neg: float, gamma_pos: float, clip: float
) -> Tensor:
    """A binary loss for each class, in which the many easy "no" say little.

    With p the sigmoid of a logit and p_m = max(p - clip, 0), a pixel costs (1 - p)^gamma_pos (-log p) for its own class
    plus p_m^gamma_neg (-log(1 - p_m)) for each other class. As in cross-entropy the whole cost of a pixel, of its own
    and of the other classes, is weighted by its own class, and the result is the weighted mean over pixels. The largest
    logit is the most probable class of the sigmoids as of a softmax, so that prediction stays the argmax.

    No gradient flows through the two focusing powers, as in the authors' code (``disable_torch_grad_focal_loss``).

    Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021, arXiv 2009.14119, section 2,
    "Asymmetric Focusing" and "Asymmetric Probability Shifting".
    """
    own = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)[:, None, None]
    towards = torch.where(own, logits.float(), -logits.float())  # its sigmoid is the probability of the right answer
    shift = torch.where(own, 0.0, clip)
    with torch.no_grad():
        focus = (torch.sigmoid(-towards) - shift).clamp_min(0) ** torch.where(own, gamma_pos, gamma_neg)
    # log(sigmoid + shift), which is finite also where the sigmoid is 0 in fp32.
    surprise = -torch.logaddexp(F.logsigmoid(towards), shift.log()).clamp_max(0)
    return _weighted_mean((focus * surprise).sum(1), _pixel_weights(labels, weights), mean)


def ohem(logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean, *, threshold: float, keep: float) -> Tensor:
    """The cross-entropy above of the pixels whose true class has a probability below ``threshold``.

    The share ``keep`` of the pixels, those of least probability, is kept in any case, and pixels as improbable as the
    last of them.

    Sources: Shrivastava, Gupta and Girshick, "Training Region-based Object Detectors with Online Hard Example Mining",
    CVPR 2016, of regions; of pixels, with threshold and least number, the code of OCNet and HRNet. That class weights
    do not decide what is hard is ours.
    """
    surprise = F.cross_entropy(logits.float(), labels, ignore_index=VOID, reduction="none")
    pixel_weights = _pixel_weights(labels, weights)
    with torch.no_grad():
        counts = pixel_weights > 0
        hard = torch.exp(-surprise) < threshold
        least = math.ceil(keep * int(counts.sum()))
        if least:
            hard |= surprise >= surprise[counts].topk(least).values[-1]
    return _weighted_mean(surprise, pixel_weights * hard, mean)


def dice(logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean) -> Tensor:
    """1 - 2 sum_i p_i(c) [y_i = c] / sum_i (p_i(c) + [y_i = c]), mean over the classes c that occur in the truth.

    p is the softmax, sums run over the pixels of the whole batch. Classes count alike: no weights, and no ``mean``.

    Sources: Milletari, Navab and Ahmadi, "V-Net", arXiv 1606.04797, "Dice loss layer", with p in place of its square
    below the line, as in Sudre et al., "Generalised Dice overlap", arXiv 1707.03237. There is no epsilon: of a class
    that occurs no sum is empty.
    """
    del mean
    return _mean_over_classes(logits, labels, weights, _dice_of_class)


def lovasz(logits: Tensor, labels: Tensor, weights: Tensor, mean: Mean) -> Tensor:
    """The Lovasz extension of 1 - IoU at the errors of the softmax, mean over the classes that occur in the truth.

    IoU is that of the pixels of the whole batch. Classes count alike: no weights, and no ``mean``.

    Source: Berman, Rannen Triki and Blaschko, "The Lovasz-Softmax loss", CVPR 2018, arXiv 1705.08790, its form for
    several classes over a batch.
    """
    del mean
    return _mean_over_classes(logits, labels, weights, _lovasz_of_class)


def _pixel_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """Weight of each pixel, float (N, h, w): that of its class, 0 where void."""
    known = labels != VOID
    found = torch.zeros(labels.shape, device=labels.device)
    found[known] = weights.float()[labels[known]]
    return found


def _weighted_mean(costs: Tensor, pixel_weights: Tensor, mean: Mean) -> Tensor:
    """Mean of (N, h, w) ``costs``; where no pixel has a weight 0, for 0 / 0 would end a training for good."""
    return (pixel_weights * costs).sum() / mean(pixel_weights.sum()).clamp_min(torch.finfo(torch.float32).tiny)


def _mean_over_classes(
    logits: Tensor, labels: Tensor, weights: Tensor, of_class: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Mean of ``of_class(probability (M,), truth (M,) bool)`` over the classes that the M pixels which count have."""
    counts = _pixel_weights(labels, weights) > 0
    truth = labels[counts]
    probabilities = logits.float().softmax(1)
    classes = truth.bincount().nonzero()[:, 0].tolist()
    total = probabilities[:0].sum()  # 0, with gradients also where there is no class
    maps = probabilities.unbind(1)
    for each in classes:
        total = total + of_class(maps[each].masked_select(counts), truth == each)
    return total / max(1, len(classes))


def _dice_of_class(probability: Tensor, truth: Tensor) -> Tensor:
    return 1 - 2 * (probability * truth).sum() / (probability.sum() + truth.sum())


def _lovasz_of_class(probability: Tensor, truth: Tensor) -> Tensor:
    errors, order = torch.where(truth, 1 - probability, probability).sort(descending=True)
    # Pixel by pixel, the most mistaken first, joins the set of the mistaken, and 1 - IoU grows by jumps: a pixel of the
    # class leaves the intersection, any other joins the union. The jumps are written out: as differences of the
    # cumulated 1 - IoU, as in the authors' code, a million pixels leave one digit of them in fp32.
    own = truth[order]
    size = truth.sum()
    union = size + (~own).cumsum(0)
    left = size - own.cumsum(0)
    jumps = torch.where(own, 1 / union, left / (union * (union - 1)))
    return (errors * jumps).sum()
