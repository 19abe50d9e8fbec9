"""Fully convolutional networks (FCN): classification networks applied to every pixel.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
arXiv 1411.4038; the longer version by Shelhamer, Long, Darrell, PAMI 2017, arXiv 1605.06211.

    FCNVGG       VGG ── pool3 ── pool4 ── pool5 ── fc6 ── fc7 ── classes ──► x32 (32s)
                          │        └───────────── classes ── + ── x2 ─────► x16 (16s)
                          └────────────────────── classes ── + ── x2 ─────► x8  (8s)
    FCNResNet18  ResNet-18 ── classes ──► x32, or x8 with the last two stages dilated
    FCNDilated   torchvision's FCN: ResNet with the last two stages dilated ── 3x3 ── classes at 1/8
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from rtseg.errors import OptionError
from rtseg.models.backbones import adapt_input, dilate, resnet, resnet_stem
from rtseg.models.base import Network
from rtseg.models.pretrained import download_weights, load_weights, strip_prefix
from rtseg.models.torchvision_models import TorchvisionNetwork

__all__ = ["FCNVGG", "BilinearUpsampling", "FCNDilated", "FCNResNet18"]

_VGG = {11: "A", 13: "B", 16: "D", 19: "E"}
"""Depth -> column of table 1 in Simonyan and Zisserman, ICLR 2015, arXiv 1409.1556."""
_PUBLISHED_HIDDEN = 4096


class BilinearUpsampling(nn.ConvTranspose2d):
    """Transposed convolution for upsampling by ``factor``, initialised as bilinear interpolation.

    Each class has its own kernel: (2f, 2f) at stride f and padding f / 2, with values
    (1 - |y - c| / f) (1 - |x - c| / f), c = f - 1/2 (PAMI version, section 4.3).
    """

    def __init__(self, classes: int, factor: int) -> None:
        super().__init__(classes, classes, 2 * factor, factor, factor // 2, groups=classes, bias=False)
        line = 1 - (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
        with torch.no_grad():
            self.weight.copy_((line[:, None] * line).expand_as(self.weight))


class FCNVGG(Network):
    """FCN-32s, 16s and 8s on VGG. The logits have the size of the input.

    Args:
        classes: number of classes.
        step: 32, 16 or 8: the finest features used are those at 1/step.
        depth: layers of the VGG: 11, 13, 16 or 19.
        hidden: channels of fc6 and fc7. The paper uses 4096 (118 M parameters), the only number with published weights.
        norm: VGG with batch norm, which is much easier to train from scratch.
        channels: of the images.
    """

    multiple = 32
    stride = 1

    def __init__(
        self,
        classes: int,
        *,
        step: int = 32,
        depth: int = 16,
        hidden: int = 512,
        norm: bool = False,
        channels: int = 3,
    ) -> None:
        super().__init__(classes, channels)
        if hidden < 1:
            raise OptionError(f"hidden of FCN must be at least 1, got {hidden}")
        self.torchvision_name = f"vgg{depth}" + "_bn" * norm
        self.hidden = hidden
        self.features = make_layers(cfgs[_VGG[depth]], batch_norm=norm)
        adapt_input(self.features, channels)
        self.head = nn.Sequential(
            nn.Conv2d(512, hidden, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Conv2d(hidden, classes, 1),
        )
        for part in (*self.features.modules(), *self.head.modules()):
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, part.bias))
        # Close to the zeros of the paper (section 4.3), as in VGG's own last layer: with Kaiming initialisation the
        # initial logits would be too large.
        nn.init.normal_(cast(Tensor, self.head[-1].weight), std=0.01)
        # Finest last. Initialised to zero, so that the network starts as the coarser one (section 4.2).
        self.skips = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in {32: (), 16: (512,), 8: (512, 256)}[step])
        for parameter in self.skips.parameters():
            nn.init.zeros_(parameter)
        self.doublings = nn.ModuleList(BilinearUpsampling(classes, 2) for _ in self.skips)
        self.enlarge = BilinearUpsampling(classes, step)

    def load_pretrained(self) -> None:
        """See ``Network.load_pretrained``: ImageNet weights for VGG, and for fc6 and fc7 of 4096 channels."""
        weights = download_weights(self.torchvision_name)
        load_weights(self.features, strip_prefix(weights, "features."))
        if self.hidden == _PUBLISHED_HIDDEN:
            kernels = {
                name: value.view(_PUBLISHED_HIDDEN, -1, *((7, 7) if name == "0.weight" else (1, 1)))
                if name.endswith("weight")
                else value
                for name, value in strip_prefix(weights, "classifier.").items()
            }
            for name in ("0", "3"):
                load_weights(self.head.get_submodule(name), strip_prefix(kernels, f"{name}."))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, H, W) for float (N, channels, H, W)."""
        pools: list[Tensor] = []
        features = images
        for layer in self.features:
            features = layer(features)
            if isinstance(layer, nn.MaxPool2d):
                pools.append(features)
        logits = self.head(features)
        for pool, skip, double in zip(reversed(pools[:-1]), self.skips, self.doublings, strict=False):
            logits = double(logits) + skip(pool)
        logits = self.enlarge(logits)
        return (logits,) if self.training else logits


class FCNResNet18(Network):
    """ResNet-18, a 1x1 convolution and a transposed convolution. The logits have the size of the input.

    Args:
        classes: number of classes.
        step: 32, or 8: the last two stages are dilated instead of strided, for small objects.
        channels: of the images.
    """

    multiple = 32
    stride = 1

    def __init__(self, classes: int, *, step: int = 32, channels: int = 3) -> None:
        super().__init__(classes, channels)
        if step not in (8, 32):
            raise OptionError(f"step of fcn-resnet18 must be 8 or 32, got {step}")
        self.trunk = resnet(18, channels)
        if step == 8:
            dilate(self.trunk.get_submodule("layer3"), 2)
            dilate(self.trunk.get_submodule("layer4"), 4)
        self.classify = nn.Conv2d(512, classes, 1)
        nn.init.xavier_uniform_(self.classify.weight)
        nn.init.zeros_(cast(Tensor, self.classify.bias))
        self.enlarge = BilinearUpsampling(classes, step)

    def load_pretrained(self) -> None:
        """See ``Network.load_pretrained``: ImageNet weights for the backbone."""
        load_weights(self.trunk, download_weights("resnet18"))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (N, classes, H, W) for float (N, channels, H, W)."""
        features = resnet_stem(self.trunk, images)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            features = self.trunk.get_submodule(stage)(features)
        logits = self.enlarge(self.classify(features))
        return (logits,) if self.training else logits


class FCNDilated(TorchvisionNetwork):
    """torchvision's FCN: a ResNet at 1/8 with a 3x3 head, and in training an auxiliary head on the stage before.

    Args:
        classes: number of classes.
        backbone: ``resnet50`` or ``resnet101``.
        channels: of the images.
    """

    multiple = 8
    stride = 8

    def __init__(self, classes: int, *, backbone: str = "resnet50", channels: int = 3) -> None:
        super().__init__(f"fcn_{backbone}", classes, channels)
