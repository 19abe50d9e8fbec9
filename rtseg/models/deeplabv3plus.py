"""DeepLabV3+: the pyramid of DeepLabV3 at 1/16, refined by a decoder with features at 1/4.

Source: Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018, arXiv 1802.02611. Pyramid and decoder use separable convolutions, as in the paper.

    trunk ── 1/16 ── ASPP (1x1, 3x3 at 6, 12, 18, image) ── x4 ──┐
      └───── 1/4 ── 1x1 to 48 channels ──────────────────────────┴ 3x3 ── 3x3 ── classes at 1/4
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses
from torchvision.models import mobilenet_v3_large
from torchvision.ops import SqueezeExcitation

from rtseg.models.backbones import adapt_input, dilate, resnet, resnet_stem
from rtseg.models.base import Network
from rtseg.models.deeplabv3 import ImagePooling
from rtseg.models.pretrained import download_weights, load_weights, strip_prefix

__all__ = ["DeepLabV3Plus", "SeparableASPP"]

_WIDTH = 256
_DETAIL = 48
"""Channels of the low-level features in the decoder: few, so that they do not outweigh the pyramid (section 3.1)."""


def _layer(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return _layer(nn.Conv2d(inputs, outputs, 1, bias=False))


def _separable(inputs: int, outputs: int, rate: int = 1) -> nn.Sequential:
    """A depthwise 3x3 convolution, then a 1x1 convolution."""
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=rate, dilation=rate, groups=inputs, bias=False)
    return nn.Sequential(*_layer(depthwise), *_pointwise(inputs, outputs))


class SeparableASPP(nn.Module):
    """Atrous spatial pyramid pooling: convolutions at several rates and the image mean, concatenated and projected."""

    def __init__(self, inputs: int, rates: tuple[int, ...] = (6, 12, 18)) -> None:
        super().__init__()
        self.pooling = ImagePooling(nn.AdaptiveAvgPool2d(1), *_pointwise(inputs, _WIDTH))
        self.views = nn.ModuleList(
            [nn.Sequential(*_pointwise(inputs, _WIDTH)), *(_separable(inputs, _WIDTH, rate) for rate in rates)]
        )
        self.project = nn.Sequential(*_pointwise((len(rates) + 2) * _WIDTH, _WIDTH), nn.Dropout(0.5))

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 256, H, W)."""
        views = [view(features) for view in self.views]
        projected: Tensor = self.project(torch.cat([*views, self.pooling(features)], dim=1))
        return projected


class DeepLabV3Plus(Network):
    """The DeepLabV3+ network.

    Args:
        classes: number of classes.
        backbone: ``resnet50``, ``resnet101`` or ``mobilenet_v3_large``.
        se: squeeze and excitation (Hu et al., CVPR 2018, arXiv 1709.01507) on the input of the decoder's convolutions.
        channels: of the images.
    """

    multiple = 16
    stride = 4

    def __init__(self, classes: int, *, backbone: str = "resnet50", se: bool = False, channels: int = 3) -> None:
        super().__init__(classes, channels)
        self.backbone = backbone
        if backbone == "mobilenet_v3_large":
            self.trunk = cast(nn.Module, mobilenet_v3_large(weights=None, dilated=True).features)
            adapt_input(self.trunk, channels)
            detail, deep = 24, 960
        else:
            self.trunk = resnet(int(backbone.removeprefix("resnet")), channels)
            dilate(self.trunk.get_submodule("layer4"), 2)
            detail, deep = 256, 2048
        self.pyramid = SeparableASPP(deep)
        self.detail = nn.Sequential(*_pointwise(detail, _DETAIL))
        both = _WIDTH + _DETAIL
        self.decode = nn.Sequential(
            SqueezeExcitation(both, both // 16) if se else nn.Identity(),
            _separable(both, _WIDTH),
            _separable(_WIDTH, _WIDTH),
            nn.Conv2d(_WIDTH, classes, 1),
        )
        for part in (*self.pyramid.modules(), *self.detail.modules(), *self.decode.modules()):
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    def load_pretrained(self) -> None:
        """See ``Network.load_pretrained``: ImageNet weights for the backbone."""
        weights = download_weights(self.backbone)
        prefix = "" if self.backbone.startswith("resnet") else "features."
        load_weights(self.trunk, strip_prefix(weights, prefix))

    def fix_size(self, height: int, width: int) -> None:
        """See ``Network.fix_size``."""
        self.pyramid.pooling.fix_size(height // 16, width // 16)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, H / 4, W / 4) for float (N, channels, H, W)."""
        detail, deep = self._features(images)
        upsampled = F.interpolate(self.pyramid(deep), scale_factor=4.0, mode="bilinear", align_corners=False)
        logits: Tensor = self.decode(torch.cat((upsampled, self.detail(detail)), dim=1))
        return (logits,) if self.training else logits

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the backbone at 1/4 and at 1/16."""
        if isinstance(self.trunk, nn.Sequential):
            detail = self.trunk[:4](images)
            return detail, self.trunk[4:](detail)
        detail = self.trunk.get_submodule("layer1")(resnet_stem(self.trunk, images))
        deep = detail
        for stage in ("layer2", "layer3", "layer4"):
            deep = self.trunk.get_submodule(stage)(deep)
        return detail, deep
