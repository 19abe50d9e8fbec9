"""Backbones from torchvision's classifiers, without their heads: any number of channels, optionally dilated."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchvision import models

__all__ = ["adapt_input", "dilate", "resnet", "resnet_stem"]


def adapt_input(network: nn.Module, channels: int) -> None:
    """Make the first convolution of ``network`` take ``channels``. A replaced convolution has random weights."""
    name, old = next((name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d))
    if old.in_channels == channels:
        return
    new = nn.Conv2d(
        channels,
        old.out_channels,
        cast(tuple[int, int], old.kernel_size),
        cast(tuple[int, int], old.stride),
        cast(tuple[int, int], old.padding),
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    network.set_submodule(name, new)


def dilate(stage: nn.Module, rate: int) -> None:
    """Replace the stride in a stage of a ResNet by a dilation of its 3x3 kernels.

    Source: Yu, Koltun, Funkhouser, "Dilated Residual Networks", CVPR 2017, section 2.
    """
    for part in stage.modules():
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)
            if part.kernel_size == (3, 3):
                part.dilation = part.padding = (rate, rate)


def resnet(depth: int, channels: int) -> nn.Module:
    """Create torchvision's ResNet with 18, 50 or 101 layers without its classifier, with random weights.

    Its parts are conv1, bn1, layer1 .. layer4. Every residual block starts as the identity, which stabilises training
    from scratch (Goyal et al. 2017, section 5.1).
    """
    trunk = cast(nn.Module, models.get_model(f"resnet{depth}", weights=None, zero_init_residual=True))
    del trunk.avgpool, trunk.fc
    adapt_input(trunk, channels)
    return trunk


def resnet_stem(trunk: nn.Module, images: Tensor) -> Tensor:
    """Apply the layers before the first stage of a ResNet: (N, channels, H, W) -> (N, 64, H / 4, W / 4)."""
    features = images
    for name in ("conv1", "bn1", "relu", "maxpool"):
        features = trunk.get_submodule(name)(features)
    return features
