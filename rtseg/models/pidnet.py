"""PIDNet: three branches, for details (P), context (I) and boundaries (D); the boundaries guide the fusion.

Source: Xu, Xiong, Bhattacharyya, "PIDNet: A Real-Time Semantic Segmentation Network Inspired by PID Controllers",
CVPR 2023, arXiv 2206.02066, section 4 and table 1.

    P  ──── 1/8 ───── Pag ───── 1/8 ───── Pag ──── 1/8 ──┐
    I  stem, 1/8 ── 1/16 ──┬─────────── 1/32 ──┬─ 1/64 ── PAPPM ── x8 ── Bag ── head ── classes at 1/8
    D  ──── 1/8 ───────── + ──── 1/8 ──────── + ── 1/8 ──┘

At 1024x2048 with 19 classes PIDNet-S has 7.6 M parameters and 47.6 GFLOPs (table 5, where a multiply-add is one
operation). In training there are also the classes of the P branch, and the boundaries of the D branch. The names of
the weights are those of the authors, so that their checkpoints can be given to ``--init``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.models.base import Network, Output
from rtseg.models.context import PAPPM, Upsample
from rtseg.models.residual import BasicBlock, Bottleneck, Head, conv_norm, initialise, stage, stem

__all__ = ["PIDNet"]

_CONTEXT_WIDTH = 96
"""Channels within PAPPM."""
_HEAD_WIDTH = 128


class PixelAttentionGuidedFusion(nn.Module):
    """Pag: a mean of details and context for each pixel, weighted by how alike both are there (section 4.1)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.f_x = conv_norm(inputs, width, 1)
        self.f_y = conv_norm(inputs, width, 1)

    def forward(self, details: Tensor, context: Tensor, factor: int) -> Tensor:
        """(N, C, H, W) and (N, C, H / factor, W / factor) -> (N, C, H, W)."""
        alike: Tensor = (self.f_x(details) * _upsample(self.f_y(context), factor)).sum(1, keepdim=True).sigmoid()
        return details + alike * (_upsample(context, factor) - details)


class BoundaryAttentionGuidedFusion(nn.Module):
    """The light form of Bag: context, and details at the boundaries (section 4.3, figure 6)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_p = conv_norm(width, width, 1)
        self.conv_i = conv_norm(width, width, 1)

    def forward(self, details: Tensor, context: Tensor, boundaries: Tensor) -> Tensor:
        """Fuse three maps of (N, C, H, W)."""
        edge = torch.sigmoid(boundaries)
        fused: Tensor = self.conv_p((1 - edge) * context + details) + self.conv_i(context + edge * details)
        return fused


class PIDNet(Network):
    """PIDNet-S, and with ``width=64`` PIDNet-M.

    Args:
        classes: number of classes.
        width: channels of the first stage.
        channels: of the images.
    """

    multiple = 32
    stride = 8
    auxiliary = ("seghead_p", "seghead_d")
    outputs = (Output.CLASSES, Output.CLASSES, Output.BOUNDARY, Output.CLASSES_AT_BOUNDARY)
    loss_weights = (1.0, 0.4, 20.0, 1.0)  # l2, l0, l1 and l3 of section 4.4

    def __init__(self, classes: int, *, width: int = 32, channels: int = 3) -> None:
        super().__init__(classes, channels)
        w = width
        self.conv1 = stem(channels, w)
        self.layer1 = stage(BasicBlock, w, w, 2)
        self.layer2 = stage(BasicBlock, w, 2 * w, 2, stride=2)
        self.layer3 = stage(BasicBlock, 2 * w, 4 * w, 3, stride=2)
        self.layer4 = stage(BasicBlock, 4 * w, 8 * w, 3, stride=2)
        self.layer5 = stage(Bottleneck, 8 * w, 8 * w, 2, stride=2)
        self._add_details(w)
        self._add_boundaries(w)
        self.spp = PAPPM(16 * w, _CONTEXT_WIDTH, 4 * w, stride=64)
        self.upsample = Upsample(8, 8)
        self.dfm = BoundaryAttentionGuidedFusion(4 * w)
        self.seghead_p = Head(2 * w, _HEAD_WIDTH, classes)
        self.seghead_d = Head(2 * w, w, 1)
        self.final_layer = Head(4 * w, _HEAD_WIDTH, classes)
        initialise(self)

    def _add_details(self, w: int) -> None:
        self.compression3 = conv_norm(4 * w, 2 * w, 1)
        self.compression4 = conv_norm(8 * w, 2 * w, 1)
        self.pag3 = PixelAttentionGuidedFusion(2 * w, w)
        self.pag4 = PixelAttentionGuidedFusion(2 * w, w)
        self.layer3_ = stage(BasicBlock, 2 * w, 2 * w, 2)
        self.layer4_ = stage(BasicBlock, 2 * w, 2 * w, 2)
        self.layer5_ = stage(Bottleneck, 2 * w, 2 * w, 1)

    def _add_boundaries(self, w: int) -> None:
        self.layer3_d = BasicBlock(2 * w, w, relu=False)
        self.layer4_d = stage(Bottleneck, w, w, 1)
        self.layer5_d = stage(Bottleneck, 2 * w, 2 * w, 1)
        self.diff3 = conv_norm(4 * w, w, 3)
        self.diff4 = conv_norm(8 * w, 2 * w, 3)

    def fix_size(self, height: int, width: int) -> None:
        """See ``Network.fix_size``."""
        self.spp.fix_size(height, width)
        self.upsample.fix_size(height, width)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits at 1/8 for float (N, channels, H, W); in training mode those of ``outputs``, all at 1/8."""
        context = F.relu(self.layer2(F.relu(self.layer1(self.conv1(images)))))
        details, boundaries = self.layer3_(context), self.layer3_d(context)
        context = F.relu(self.layer3(context))
        # The authors' code applies ReLU to these features in place, so that the auxiliary heads get them after ReLU,
        # and their checkpoints were trained so. (mmseg gives its heads a copy from before ReLU.)
        middle = F.relu(self.pag3(details, self.compression3(context), 2))
        boundaries = F.relu(boundaries + _upsample(self.diff3(context), 2))
        context = F.relu(self.layer4(context))
        details = self.pag4(self.layer4_(middle), self.compression4(context), 4)
        edges = F.relu(self.layer4_d(boundaries) + _upsample(self.diff4(context), 4))
        details, boundaries = self.layer5_(F.relu(details)), self.layer5_d(edges)
        context = self.upsample(self.spp(self.layer5(context)), int(details.shape[2]), int(details.shape[3]))
        logits: Tensor = self.final_layer(self.dfm(details, context, boundaries))
        return (logits, self.seghead_p(middle), self.seghead_d(edges), logits) if self.training else logits


def _upsample(features: Tensor, factor: int) -> Tensor:
    return F.interpolate(features, scale_factor=float(factor), mode="bilinear", align_corners=False)
