"""DeepLabV3: a dilated backbone with atrous spatial pyramid pooling (ASPP) on its last features.

Sources: Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
arXiv 1706.05587; built by torchvision. The MobileNet is V3 large (Howard et al., ICCV 2019, arXiv 1905.02244).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from rtseg.models.torchvision_models import TorchvisionNetwork

__all__ = ["DeepLabV3", "ImagePooling"]

_POOLING = "0.convs.4"
"""Submodule of torchvision's head: the last branch of its pyramid."""


class ImagePooling(nn.Sequential):
    """Image-level features of ASPP: the mean over the map, projected and broadcast over the map (section 3.3)."""

    def fix_size(self, height: int, width: int) -> None:
        """Store a map of ones as a buffer: broadcasting is a product with it, so an exported graph can be resized."""
        self.register_buffer("ones", torch.ones(height, width), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, D, H, W)."""
        mean = features
        for layer in self:
            mean = layer(mean)
        ones: Tensor | None = getattr(self, "ones", None)
        return mean.expand(-1, -1, *features.shape[2:]) if ones is None else mean * ones


class DeepLabV3(TorchvisionNetwork):
    """torchvision's DeepLabV3, with an auxiliary head in training.

    Args:
        classes: number of classes.
        backbone: ``resnet50`` or ``resnet101`` (logits at 1/8), or ``mobilenet_v3_large`` (at 1/16).
        channels: of the images.
    """

    def __init__(self, classes: int, *, backbone: str = "resnet50", channels: int = 3) -> None:
        super().__init__(f"deeplabv3_{backbone}", classes, channels)
        self.multiple = self.stride = 16 if backbone.startswith("mobilenet") else 8
        self.classifier.set_submodule(_POOLING, ImagePooling(*self.classifier.get_submodule(_POOLING).children()))

    def fix_size(self, height: int, width: int) -> None:
        """See ``Network.fix_size``."""
        pooling = cast(ImagePooling, self.classifier.get_submodule(_POOLING))
        pooling.fix_size(height // self.stride, width // self.stride)
