"""DDRNet: two branches, one at 1/8 for details and one down to 1/64 for context, which exchange features twice.

Source: Pan, Hong, Sun, Jia, "Deep Dual-Resolution Networks for Real-Time and Accurate Semantic Segmentation of Traffic
Scenes", IEEE T-ITS 2022 (preprint: Hong et al., arXiv 2101.06085), section III and table I.

    stem, stages 1, 2 ──► 1/8 ─┬─ 1/16 ──┬──▲─ 1/32 ──┬──▲─ 1/64 ── DAPPM ── x8 ─┐
                               │     down│  │up   down│  │up                      + ── head ── classes at 1/8
                               └── 1/8 ──▼──┴── 1/8 ──▼──┴── 1/8 ────────────────┘
                                            └ auxiliary head, in training

At 1024x2048 with 19 classes DDRNet-23-slim has 5.7 M parameters and 36.3 GFLOPs, DDRNet-23 20.1 M and 143.1 GFLOPs
(table V, where a multiply-add is one operation). The names of the weights are those of the authors, so that their
checkpoints can be given to ``--init``.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.models.base import Network
from rtseg.models.context import DAPPM, Upsample
from rtseg.models.residual import BasicBlock, Bottleneck, Head, conv_norm, initialise, stage, stem

__all__ = ["DDRNet"]

_CONTEXT_WIDTH = 128
"""Channels within DAPPM."""


class DDRNet(Network):
    """The DDRNet-23 network.

    Args:
        classes: number of classes.
        width: channels of the first stage: 32 is DDRNet-23-slim, 64 is DDRNet-23.
        channels: of the images.
    """

    multiple = 32
    stride = 8
    auxiliary = ("seghead_extra",)
    loss_weights = (1.0, 0.4)  # section III-E, "deep supervision"

    def __init__(self, classes: int, *, width: int = 32, channels: int = 3) -> None:
        super().__init__(classes, channels)
        w = width
        self.conv1 = stem(channels, w)
        self.layer1 = stage(BasicBlock, w, w, 2)
        self.layer2 = stage(BasicBlock, w, 2 * w, 2, stride=2)
        self.layer3 = stage(BasicBlock, 2 * w, 4 * w, 2, stride=2)
        self.layer4 = stage(BasicBlock, 4 * w, 8 * w, 2, stride=2)
        self.layer5 = stage(Bottleneck, 8 * w, 8 * w, 1, stride=2)
        self.compression3 = conv_norm(4 * w, 2 * w, 1)
        self.compression4 = conv_norm(8 * w, 2 * w, 1)
        self.down3 = conv_norm(2 * w, 4 * w, 3, stride=2)
        self.down4 = nn.Sequential(
            *conv_norm(2 * w, 4 * w, 3, stride=2), nn.ReLU(inplace=True), *conv_norm(4 * w, 8 * w, 3, stride=2)
        )
        self.layer3_ = stage(BasicBlock, 2 * w, 2 * w, 2)
        self.layer4_ = stage(BasicBlock, 2 * w, 2 * w, 2)
        self.layer5_ = stage(Bottleneck, 2 * w, 2 * w, 1)
        self.spp = DAPPM(16 * w, _CONTEXT_WIDTH, 4 * w, stride=64)
        self.upsample = Upsample(8, 8)
        self.seghead_extra = Head(2 * w, 2 * w, classes)
        self.final_layer = Head(4 * w, 2 * w, classes)
        initialise(self)

    def fix_size(self, height: int, width: int) -> None:
        """See ``Network.fix_size``."""
        self.spp.fix_size(height, width)
        self.upsample.fix_size(height, width)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits at 1/8 for float (N, channels, H, W); in training mode also the auxiliary ones at 1/8."""
        shared = F.relu(self.layer2(F.relu(self.layer1(self.conv1(images)))))
        deep, fine = self.layer3(shared), self.layer3_(shared)
        middle = fine + _upsample(self.compression3(F.relu(deep)), 2)
        deep = F.relu(deep + self.down3(F.relu(fine)))
        deep, fine = self.layer4(deep), self.layer4_(F.relu(middle))
        detail = self.layer5_(F.relu(fine + _upsample(self.compression4(F.relu(deep)), 4)))
        deep = self.layer5(F.relu(deep + self.down4(F.relu(fine))))
        context = self.upsample(self.spp(deep), int(detail.shape[2]), int(detail.shape[3]))
        logits: Tensor = self.final_layer(context + detail)
        return (logits, self.seghead_extra(middle)) if self.training else logits


def _upsample(features: Tensor, factor: int) -> Tensor:
    return F.interpolate(features, scale_factor=float(factor), mode="bilinear", align_corners=False)
