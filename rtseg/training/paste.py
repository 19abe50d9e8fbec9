"""Paste objects of rare classes from one view of a batch into the next.

Source: Olsson, Tranheden, Pinto, Svensson, "ClassMix", WACV 2021, arXiv 2007.07936, section 3.2, for the masks made of
whole classes; here with true labels, only rare classes, and a horizontal shift.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rtseg.model_file.spec import VOID
from rtseg.training.mix import paste_masked

__all__ = ["paste_rare"]


def paste_rare(images: Tensor, labels: Tensor, rare: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the batch with objects pasted into ``share`` of the views. Uses torch's global random state of the CPU.

    Pasted are all pixels of about half of the rare classes, of the view before in the batch, shifted horizontally by a
    random distance around the edge, and mirrored at random.

    Args:
        images: (N, C, H, W), or clips (N, T, C, H, W).
        labels: int64 (N, H, W) or (N, T, H, W).
        rare: bool (classes,), see ``rtseg.training.objective.rare_classes``.
        share: in [0, 1].
    """
    count, width = len(labels), labels.shape[-1]
    chosen = (torch.rand(count, 1) < share) & (torch.rand(count, len(rare)) < 0.5) & rare.cpu()
    shift, mirrored = int(torch.randint(width, ())), bool(torch.rand(()) < 0.5)

    def donors(values: Tensor) -> Tensor:
        moved = values.roll((1, shift), (0, -1))
        return moved.flip(-1) if mirrored else moved

    other = donors(labels)
    void = torch.zeros(count, VOID + 1 - len(rare), dtype=torch.bool)
    table = torch.cat((chosen, void), 1).to(labels.device)  # what is pasted, by the number of the view and the class
    pasted = table.gather(1, other.flatten(1)).view_as(other)
    return paste_masked(images, labels, pasted, donors(images), other)
