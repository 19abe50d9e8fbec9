"""Random views of labelled pictures, from ``torchvision.transforms.v2``: picture and mask always together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from rtseg.datasets import Dataset
from rtseg.spec import VOID

__all__ = ["RandomViews", "training_transform"]

_GREY = {tv_tensors.Image: 124, tv_tensors.Mask: VOID}


def training_transform(crop: tuple[int, int]) -> v2.Transform:
    """Scale, crop, flip and colour jitter to ``crop`` = (H, W): uint8 in, uint8 out.

    The picture is seen between 2/3 and about 2.4 times the scale it has when it fills the crop, with the aspect ratio
    varied as resizing to a model's fixed size varies it. What zooming out uncovers is void.
    """
    wide = crop[1] / crop[0]
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomZoomOut(fill=_GREY, side_range=(1.0, 1.5), p=0.2),
            v2.RandomResizedCrop(crop, scale=(0.18, 1.0), ratio=(0.7 * wide, 1.15 * wide), antialias=True),
            # CamVid was filmed at dusk and under cloud; most dashcam pictures are brighter.
            v2.ColorJitter(brightness=(0.6, 1.9), contrast=0.4, saturation=0.5),
            v2.RandomApply([v2.ColorJitter(hue=0.05)], p=0.3),
            v2.RandomGrayscale(p=0.05),
            v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=0.15),
        ]
    )


class RandomViews(TorchDataset[tuple[Tensor, Tensor]]):
    """Random views of several data sets, one of each picture an epoch.

    What a view looks like depends on the seed, the epoch and its place alone, not on the worker that makes it:
    a resumed run goes on exactly where the stopped one would have.
    """

    def __init__(self, datasets: list[Dataset], crop: tuple[int, int], *, seed: int) -> None:
        self._items = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
        self._transform = training_transform(crop)
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        """Picture uint8 (3, h, w) RGB and labels int64 (h, w) at ``place``."""
        dataset, index = self._items[place]
        picture, labels = dataset.load(index, self.epoch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self._seed, self.epoch, place)) & 0x7FFF_FFFF)
            image = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1))))
            image, mask = self._transform(image, tv_tensors.Mask(torch.from_numpy(labels)))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor).long()
