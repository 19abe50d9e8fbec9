"""Mix two views of a batch into one: rectangles, or whole classes.

Sources: CutMix: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix", ICCV 2019, arXiv 1905.04899; for segmentation French, Laine,
Aila, Mackiewicz, Finlayson, BMVC 2020, arXiv 1906.01916, section 3.3: a rectangle of half the area. ClassMix: Olsson,
Tranheden, Pinto, Svensson, "ClassMix", WACV 2021, arXiv 2007.07936, section 3.2: half of the classes of a view.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rtseg.model_file.spec import VOID
from rtseg.training.options import parse_mix

__all__ = ["mix_classes", "mix_rectangles", "mix_views", "paste_masked"]


def mix_views(images: Tensor, labels: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Mix a batch as ``--mix`` says. Uses torch's global random state of the CPU.

    Args:
        images: (N, C, H, W), or clips (N, T, C, H, W).
        labels: int64 (N, H, W) or (N, T, H, W).
        how: ``cutmix:SHARE`` or ``classmix:SHARE``.

    Raises:
        OptionError: ``how`` has another form.
    """
    name, share = parse_mix(how)
    return {"cutmix": mix_rectangles, "classmix": mix_classes}[name](images, labels, share)


def mix_rectangles(images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the batch in which a rectangle of half the area comes from the view before, in ``share`` of the views."""
    height, width = labels.shape[-2:]
    mask = torch.zeros_like(labels, dtype=torch.bool)
    for view in torch.nonzero(torch.rand(len(labels)) < share).flatten().tolist():
        part = float(torch.empty(()).uniform_(0.5, 1.0))  # of the height; the width makes it half of the area
        rows, columns = round(height * part), round(width * 0.5 / part)
        top, left = int(torch.randint(height - rows + 1, ())), int(torch.randint(width - columns + 1, ()))
        mask[view, ..., top : top + rows, left : left + columns] = True
    return paste_masked(images, labels, mask, images.roll(1, 0), labels.roll(1, 0))


def mix_classes(images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the batch in which half of the classes of the view before cover ``share`` of the views.

    Void is never pasted.
    """
    donors = labels.roll(1, 0)
    table = torch.zeros((len(labels), VOID + 1), dtype=torch.bool)
    for view in torch.nonzero(torch.rand(len(labels)) < share).flatten().tolist():
        present = torch.unique(donors[view]).cpu()
        present = present[present != VOID]
        table[view, present[torch.randperm(len(present))[: (len(present) + 1) // 2]]] = True
    mask = table.to(labels.device).gather(1, donors.flatten(1)).view_as(donors)
    return paste_masked(images, labels, mask, images.roll(1, 0), donors)


def paste_masked(
    images: Tensor, labels: Tensor, mask: Tensor, other_images: Tensor, other_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return images and labels with those of ``other_images`` and ``other_labels`` where ``mask`` is true.

    Args:
        images: (N, C, H, W) or (N, T, C, H, W), as ``other_images``.
        labels: (N, H, W) or (N, T, H, W), as ``mask`` and ``other_labels``.
        mask: bool.
        other_images: what is pasted.
        other_labels: its labels.
    """
    return torch.where(mask.unsqueeze(-3), other_images, images), torch.where(mask, other_labels, labels)
